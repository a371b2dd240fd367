-- Which metric_id answers a metric's name for which time, and where landings left one out.

CREATE TABLE metric_versions (
    version bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    metric_name text NOT NULL,
    metric_id text NOT NULL,
    kind text NOT NULL,
    event_types text[] NOT NULL,
    available_from timestamptz NOT NULL,
    declared_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    superseded_at timestamptz
);

-- Two definitions of one name are never in force together, whatever a process does.
CREATE UNIQUE INDEX metric_versions_current_key ON metric_versions (metric_name) WHERE superseded_at IS NULL;
CREATE INDEX metric_versions_metric_id_idx ON metric_versions (metric_id);

COMMENT ON TABLE metric_versions IS
'What a name has meant: one row for each time that a metric was declared anew, or went back to what it was.';
COMMENT ON COLUMN metric_versions.event_types IS 'The events that count; empty means all.';
COMMENT ON COLUMN metric_versions.available_from IS
'Buckets that start here or later are complete, but for the hours in metric_gaps; a backfill moves it back.';
COMMENT ON COLUMN metric_versions.superseded_at IS 'When another version took the name; NULL for the one in force.';

CREATE TABLE metric_gaps (
    metric_id text NOT NULL,
    hour timestamptz NOT NULL,
    batch_id bigint NOT NULL,
    PRIMARY KEY (metric_id, hour)
);

COMMENT ON TABLE metric_gaps IS
'Hours in which events landed without deltas of a metric that answers for them, until a recompute has read them.';
COMMENT ON COLUMN metric_gaps.batch_id IS
'The last such batch: a recompute removes the row only if it is the one that its snapshot saw.';

-- What was computed before there were versions has been computed all the time; of two ids of one name the later counts.
INSERT INTO metric_versions (metric_name, metric_id, kind, event_types, available_from, superseded_at)
SELECT
    known.metric_name,
    known.metric_id,
    known.kind,
    '{}',
    timestamptz '1970-01-01 00:00:00+00',
    CASE WHEN lead(known.metric_id) OVER names IS NOT NULL THEN clock_timestamp() END
FROM (
    SELECT
        metric_id,
        min(metric_name) AS metric_name,
        max(kind) AS kind,
        max(newest) AS newest
    FROM (
        SELECT
            settled.metric_id,
            min(settled.metric_name) AS metric_name,
            max(settled.time_bucket) AS newest,
            coalesce((
                SELECT max(states.kind) FROM metric_states AS states
                WHERE states.metric_id = settled.metric_id AND states.interval = '1d'
            ), 'value') AS kind
        FROM metric_aggregations AS settled
        WHERE settled.interval = '1d' AND settled.metric_id <> ''
        GROUP BY settled.metric_id
        UNION ALL
        SELECT
            metric_id,
            min(metric_name),
            max(hour),
            max(kind)
        FROM rollup_deltas
        WHERE kind <> 'register'
        GROUP BY metric_id
    ) AS both_halves
    GROUP BY metric_id
) AS known
WINDOW names AS (PARTITION BY known.metric_name ORDER BY known.newest)
ORDER BY known.newest;

-- Half-open ranges of bucket starts: of one name they never overlap, so no bucket is answered by two definitions.
CREATE VIEW metric_service AS
SELECT
    version,
    metric_name,
    metric_id,
    kind,
    event_types,
    available_from,
    superseded_at,
    CASE
        WHEN row_number() OVER (PARTITION BY metric_name ORDER BY version) = 1 THEN timestamptz '-infinity'
        ELSE available_from
    END AS served_from,
    coalesce(
        min(available_from) OVER (
            PARTITION BY metric_name ORDER BY version ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        ),
        timestamptz 'infinity'
    ) AS served_until
FROM metric_versions;

COMMENT ON VIEW metric_service IS
'Which version answers for buckets that start in [served_from, served_until): the newest that is available then.';

CREATE FUNCTION announce_metric_versions() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NOTIFY metric_versions;
    RETURN NULL;
END
$$;

CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON metric_versions
FOR EACH STATEMENT EXECUTE FUNCTION announce_metric_versions();

CREATE OR REPLACE VIEW metrics_live AS
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
WHERE
    metric_id NOT IN (SELECT service.metric_id FROM metric_service AS service)
    OR EXISTS (
        SELECT FROM metric_service AS service
        WHERE
            service.metric_id = both_halves.metric_id
            AND both_halves.time_bucket >= service.served_from AND both_halves.time_bucket < service.served_until
    )
GROUP BY metric_name, interval, time_bucket, dimension_set, dimensions, metric_id;

COMMENT ON VIEW metrics_live IS
'Settled plus pending: what is true at this moment, for SQL and Grafana; each bucket from the version that answers for it.';
