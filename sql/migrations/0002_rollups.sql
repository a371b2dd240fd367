-- Rollups: pending partial states, settled rows of the five levels, the bucket register.

CREATE TABLE rollup_deltas (
    hour timestamptz NOT NULL,
    batch_id bigint NOT NULL,
    minute timestamptz NOT NULL,
    metric_id text NOT NULL,
    metric_name text NOT NULL,
    dimension_set text NOT NULL,
    dimensions jsonb NOT NULL,
    kind text NOT NULL,
    count bigint NOT NULL,
    sum numeric,
    min double precision,
    max double precision,
    state bytea
);

CREATE INDEX rollup_deltas_hour_batch_id_idx ON rollup_deltas (hour, batch_id);
CREATE INDEX rollup_deltas_metric_id_minute_idx ON rollup_deltas (metric_id, minute);

COMMENT ON TABLE rollup_deltas IS 'Partial states of every metric, written by landings, added to the levels and removed by merges.';

CREATE TABLE pending_batches (
    hour timestamptz NOT NULL,
    batch_id bigint NOT NULL,
    PRIMARY KEY (hour, batch_id)
);

COMMENT ON TABLE pending_batches IS 'Which batches have deltas in which hour: the fingerprint of what is not settled yet.';

CREATE TABLE rollup_days (
    day date PRIMARY KEY,
    revision bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE rollup_days IS 'Raised by every merge or recompute that touches the UTC day: the settled half of its data version.';

CREATE TABLE metric_aggregations (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    metric_name text NOT NULL,
    interval varchar(10) NOT NULL,
    time_bucket timestamptz NOT NULL,
    count bigint NOT NULL DEFAULT 0,
    sum double precision,
    avg double precision,
    min double precision,
    max double precision,
    p50 double precision,
    p95 double precision,
    p99 double precision,
    dimensions jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    metric_id text NOT NULL DEFAULT '',
    dimension_set text NOT NULL DEFAULT '',
    sum_exact numeric,
    distinct_count bigint
) PARTITION BY LIST (interval);

CREATE UNIQUE INDEX metric_aggregations_series_key
ON metric_aggregations (metric_name, dimension_set, time_bucket, dimensions, metric_id, interval);
CREATE INDEX metric_aggregations_time_bucket_idx ON metric_aggregations (time_bucket, metric_id);

COMMENT ON TABLE metric_aggregations IS 'Settled rollups, a row per metric, interval, bucket and series; totals have no dimension_set.';
COMMENT ON COLUMN metric_aggregations.sum_exact IS 'The sum in decimals; sum and avg are derived from it.';
COMMENT ON COLUMN metric_aggregations.distinct_count IS 'Of metrics that count distinct values, derived from the state; not additive.';

CREATE TABLE metric_states (
    metric_id text NOT NULL,
    interval varchar(10) NOT NULL,
    time_bucket timestamptz NOT NULL,
    dimension_set text NOT NULL,
    dimensions jsonb NOT NULL,
    kind text NOT NULL,
    state bytea NOT NULL
) PARTITION BY LIST (interval);

CREATE UNIQUE INDEX metric_states_series_key ON metric_states (metric_id, dimension_set, time_bucket, dimensions, interval);
CREATE INDEX metric_states_time_bucket_idx ON metric_states (time_bucket, metric_id);

COMMENT ON TABLE metric_states IS 'Mergeable quantile and distinct states of the series that have them.';

CREATE TABLE metric_buckets (
    interval varchar(10) NOT NULL,
    time_bucket timestamptz NOT NULL,
    revision bigint NOT NULL DEFAULT 1,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'settling', 'final', 'restated')),
    event_count bigint NOT NULL DEFAULT 0,
    late_count bigint NOT NULL DEFAULT 0,
    set_hash numeric(39, 0) NOT NULL DEFAULT 0,
    computed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id text,
    PRIMARY KEY (interval, time_bucket)
) PARTITION BY LIST (interval);

CREATE INDEX metric_buckets_unsettled_idx ON metric_buckets (time_bucket) WHERE state IN ('open', 'settling');

COMMENT ON TABLE metric_buckets IS 'The register of buckets: how often each changed, how many events it holds, and a hash of their set.';
COMMENT ON COLUMN metric_buckets.set_hash IS 'Order-independent sum, modulo 2^128, of the hashes of the events in the bucket.';

DO $$
DECLARE
    parent text;
    level text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['metric_aggregations', 'metric_states', 'metric_buckets'] LOOP
        FOREACH level IN ARRAY ARRAY['1m', '5m', '15m', '1h', '1d'] LOOP
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES IN (%L) PARTITION BY RANGE (time_bucket)',
                parent || '_' || level, parent, level
            );
        END LOOP;
    END LOOP;
END
$$;

-- The start of the bucket of a level that holds a time; UTC, half-open.
CREATE FUNCTION bucket_start(level text, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT date_bin(
    CASE level
        WHEN '1m' THEN interval '1 minute' WHEN '5m' THEN interval '5 minutes' WHEN '15m' THEN interval '15 minutes'
        WHEN '1h' THEN interval '1 hour' WHEN '1d' THEN interval '24 hours'
    END,
    at, timestamptz '2000-01-01 00:00:00+00'
)
$$;

CREATE VIEW metrics_live AS
SELECT
    metric_name,
    interval,
    time_bucket,
    dimension_set,
    dimensions,
    metric_id,
    sum(count)::bigint AS count,
    sum(sum_exact)::double precision AS sum,
    (sum(sum_exact) / nullif(sum(count), 0))::double precision AS avg,
    min(min) AS min,
    max(max) AS max
FROM (
    SELECT
        metric_name,
        interval,
        time_bucket,
        dimension_set,
        dimensions,
        metric_id,
        count,
        coalesce(sum_exact, sum::numeric) AS sum_exact,
        min,
        max
    FROM metric_aggregations
    UNION ALL
    SELECT
        deltas.metric_name,
        levels.interval,
        bucket_start(levels.interval, deltas.minute),
        deltas.dimension_set,
        deltas.dimensions,
        deltas.metric_id,
        deltas.count,
        deltas.sum,
        deltas.min,
        deltas.max
    FROM rollup_deltas AS deltas
    CROSS JOIN (VALUES ('1m'), ('5m'), ('15m'), ('1h'), ('1d')) AS levels (interval)
    WHERE deltas.kind <> 'register'
) AS both_halves
GROUP BY metric_name, interval, time_bucket, dimension_set, dimensions, metric_id;

COMMENT ON VIEW metrics_live IS 'Settled plus pending: what is true at this moment, for SQL and Grafana.';
