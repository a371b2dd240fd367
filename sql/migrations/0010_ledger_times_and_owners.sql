-- When the transaction of a batch began, which is created_at of its events and dead letters; who owns a partition.

ALTER TABLE ingest_batches ADD COLUMN began_at timestamptz;
UPDATE ingest_batches SET began_at = committed_at - make_interval(secs => seconds);
ALTER TABLE ingest_batches ALTER COLUMN began_at SET DEFAULT now(), ALTER COLUMN began_at SET NOT NULL;

CREATE INDEX ingest_batches_partition_idx ON ingest_batches (source, partition, batch_id);

COMMENT ON COLUMN ingest_batches.began_at IS 'The same moment as created_at of the events and dead letters of the batch.';
COMMENT ON COLUMN ingest_batches.note IS 'Why offsets were skipped or are read again, and who said so.';

ALTER TABLE ingest_offsets ADD COLUMN owner text;

COMMENT ON COLUMN ingest_offsets.owner IS 'application_name of the connection that claimed it last.';
