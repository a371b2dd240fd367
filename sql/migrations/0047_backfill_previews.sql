-- What previews of backfills are at and have found, so that others than who asked for them can see it.

CREATE TABLE backfill_previews (
    run_id text PRIMARY KEY,
    metrics text[],
    first timestamptz NOT NULL,
    last timestamptz NOT NULL,
    total_hours integer NOT NULL,
    hours integer NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    differences jsonb NOT NULL DEFAULT '{}',
    changes jsonb NOT NULL DEFAULT '[]',
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    backend integer NOT NULL,
    backend_start timestamptz NOT NULL
);

COMMENT ON TABLE backfill_previews IS 'Previews of backfills (dry runs), for 30 days: how far each is, and what it has found.';
COMMENT ON COLUMN backfill_previews.run_id IS 'The run in Dagster, or the name that the command gave itself.';
COMMENT ON COLUMN backfill_previews.metrics IS 'Names; null for all metrics.';
COMMENT ON COLUMN backfill_previews.first IS 'Start of the first hour.';
COMMENT ON COLUMN backfill_previews.last IS 'End of the last hour.';
COMMENT ON COLUMN backfill_previews.total_hours IS 'To be compared.';
COMMENT ON COLUMN backfill_previews.hours IS 'Compared so far.';
COMMENT ON COLUMN backfill_previews.events IS 'Raw events of the hours compared so far.';
COMMENT ON COLUMN backfill_previews.differences IS 'How many rows of each interval differ, by interval.';
COMMENT ON COLUMN backfill_previews.changes IS 'The first 100 rows that differ at 1h, or at 1d where a day has no hours any more.';
COMMENT ON COLUMN backfill_previews.began_at IS 'When it began.';
COMMENT ON COLUMN backfill_previews.updated_at IS 'When the last hour was compared.';
COMMENT ON COLUMN backfill_previews.ended_at IS 'When all was compared; null before, and where it was interrupted.';
COMMENT ON COLUMN backfill_previews.backend IS 'Process id in Postgres of the connection that writes this line.';
COMMENT ON COLUMN backfill_previews.backend_start IS 'When that connection began.';
