-- Dead letters that are looked at in groups, replayed and discarded.

ALTER TABLE dead_letter_events
ADD COLUMN fingerprint text NOT NULL DEFAULT '',
ADD COLUMN attempts integer NOT NULL DEFAULT 0,
ADD COLUMN attempted_at timestamptz,
ADD COLUMN settled_at timestamptz,
ADD COLUMN replay_batch_id bigint,
ADD COLUMN note text;

-- Those from before are grouped by their reason and detail; what was marked by hand has no batch to point to.
UPDATE dead_letter_events SET fingerprint = left(md5(reason || ' ' || detail), 16);
UPDATE dead_letter_events
SET status = 'discarded', settled_at = now(), note = 'marked as ' || status || ' by hand'
WHERE status <> 'open';

ALTER TABLE dead_letter_events
ALTER COLUMN fingerprint DROP DEFAULT,
ADD CONSTRAINT replayed_by_a_batch CHECK ((status = 'replayed') = (replay_batch_id IS NOT NULL)),
ADD CONSTRAINT settled_unless_open CHECK ((status = 'open') = (settled_at IS NULL));

CREATE INDEX dead_letter_events_fingerprint_idx ON dead_letter_events (fingerprint, id) INCLUDE (status, created_at);
CREATE INDEX dead_letter_events_reason_idx ON dead_letter_events (reason, id);

COMMENT ON COLUMN dead_letter_events.fingerprint IS 'Names the group: a hash of reason, path and shape of the value.';
COMMENT ON COLUMN dead_letter_events.attempts IS 'Replays so far; a failed one leaves the letter open with its new reason.';
COMMENT ON COLUMN dead_letter_events.replay_batch_id IS 'The batch of the ledger, source _replay, that landed it.';

-- Where an operator last decided about a partition: its dead-letter limit counts from there.
CREATE INDEX ingest_batches_note_idx ON ingest_batches (source, partition, batch_id) WHERE note IS NOT NULL;
