-- Indexes by user and session, on days of events that are over: on the open day each would cost landing more than it can spare.

CREATE TABLE event_index_state (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    indexed_before timestamptz NOT NULL DEFAULT '-infinity'
);

INSERT INTO event_index_state DEFAULT VALUES;

COMMENT ON TABLE event_index_state IS 'Which days of events have the indexes by user_id and session_id; maintenance builds them.';
COMMENT ON COLUMN event_index_state.indexed_before IS 'All partitions of events below this time have them.';
