-- Who posted what waits in the inbox, for source statistics.

ALTER TABLE http_inbox ADD COLUMN producers jsonb;

COMMENT ON COLUMN http_inbox.producers IS 'List of [name, events] in the order of the payload''s lines; null when nobody gave a name.';
