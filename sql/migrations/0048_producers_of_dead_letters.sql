-- Dead letters by who sent them. Those from before have no producer; a replay that leaves one open gives it its name.

ALTER TABLE dead_letter_events ADD COLUMN producer text;

COMMENT ON COLUMN dead_letter_events.producer IS
'Name that the message gave: the header source, else client_id; __other__ where it is unreadable, null without one.';

-- Groups are counted by producer, too, and from this index alone: without the column each would cost a walk through the table.
CREATE INDEX dead_letter_events_groups_idx ON dead_letter_events (fingerprint, id) INCLUDE (status, created_at, producer);
DROP INDEX dead_letter_events_fingerprint_idx;
ALTER INDEX dead_letter_events_groups_idx RENAME TO dead_letter_events_fingerprint_idx;

-- The letters of one producer among those of all: no other index leads to them.
CREATE INDEX dead_letter_events_producer_idx ON dead_letter_events (producer, id) WHERE producer IS NOT NULL;
