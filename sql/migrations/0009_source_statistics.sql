-- Statistics of sources: what each producer sent, how late, and what became of it.

-- Appended by landings, so that two of them never wait for each other; folded into source_statistics about once a
-- minute by the live merge.
CREATE TABLE source_statistics_deltas (
    batch_id bigint NOT NULL,
    source text NOT NULL,
    producer text NOT NULL,
    read bigint NOT NULL,
    stored bigint NOT NULL,
    duplicate bigint NOT NULL,
    dead bigint NOT NULL,
    reasons jsonb NOT NULL,
    lateness bytea NOT NULL,
    ahead_max_ms double precision NOT NULL,
    landed_at timestamptz NOT NULL DEFAULT now()
);

-- A queue: always short, always written.
ALTER TABLE source_statistics_deltas SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

COMMENT ON TABLE source_statistics_deltas IS 'Source statistics of single batches, not folded into their hour yet.';

CREATE TABLE source_statistics (
    hour timestamptz NOT NULL,
    source text NOT NULL,
    producer text NOT NULL,
    read bigint NOT NULL,
    stored bigint NOT NULL,
    duplicate bigint NOT NULL,
    dead bigint NOT NULL,
    reasons jsonb NOT NULL DEFAULT '{}',
    lateness bytea NOT NULL,
    ahead_max_ms double precision NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (hour, source, producer),
    CONSTRAINT read_is_accounted_for CHECK (read = stored + duplicate + dead)
);

COMMENT ON TABLE source_statistics IS 'What landed in an hour, per source and producer.';
COMMENT ON COLUMN source_statistics.hour IS 'UTC hour of landing, whatever the time of the events.';
COMMENT ON COLUMN source_statistics.producer IS 'Name that the messages gave; empty without one, __other__ beyond the day''s limit.';
COMMENT ON COLUMN source_statistics.reasons IS 'Dead letters by reason code.';
COMMENT ON COLUMN source_statistics.lateness IS 'Quantile state, in ms, of the time from event to message; negative when ahead.';

-- Both halves, for SQL users; quantiles are in `analytics sources`.
CREATE VIEW source_statistics_live AS
SELECT
    hour,
    source,
    producer,
    read,
    stored,
    duplicate,
    dead,
    reasons,
    ahead_max_ms,
    last_at
FROM source_statistics
UNION ALL
SELECT
    date_trunc('hour', landed_at, 'UTC') AS hour,
    source,
    producer,
    read,
    stored,
    duplicate,
    dead,
    reasons,
    ahead_max_ms,
    landed_at AS last_at
FROM source_statistics_deltas;

COMMENT ON VIEW source_statistics_live IS 'Source statistics up to the last landing: group by what you need.';
