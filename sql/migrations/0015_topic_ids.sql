-- A topic that was deleted and made anew has the same name and other messages: its id in Kafka tells.

ALTER TABLE ingest_offsets ADD COLUMN topic_id text;

COMMENT ON COLUMN ingest_offsets.topic_id IS 'Kafka''s id of the topic that next_offset counts in; NULL until the next claim notes it.';
