-- Where the events of removed partitions were archived, and indexes to find rows that have expired.

ALTER TABLE retention_removals
ADD COLUMN archive text,
ADD COLUMN archived_rows bigint,
ADD COLUMN archived_hash numeric(39, 0);

COMMENT ON COLUMN retention_removals.archive IS 'Folder of its Parquet files; set before the first is written.';
COMMENT ON COLUMN retention_removals.archived_hash IS 'Set hash of the events, as in metric_buckets.';

CREATE INDEX dead_letter_events_batch_id_idx ON dead_letter_events (batch_id);
CREATE INDEX dead_letter_events_replay_batch_id_idx ON dead_letter_events (replay_batch_id)
WHERE replay_batch_id IS NOT NULL;
CREATE INDEX dead_letter_events_settled_at_idx ON dead_letter_events (settled_at)
WHERE status <> 'open' AND (key IS NOT NULL OR value IS NOT NULL OR headers IS NOT NULL);
