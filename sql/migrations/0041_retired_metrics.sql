-- Metrics that no ingest process declares any more: their end.

ALTER TABLE metric_versions ADD COLUMN retired_at timestamptz;

COMMENT ON COLUMN metric_versions.superseded_at IS
'When another version took the name, or the metric was found to be declared no more; NULL for the one in force.';
COMMENT ON COLUMN metric_versions.retired_at IS
'Where the metric ends that no process declared any more: it answers for no bucket from here on. NULL for all others.';

CREATE TABLE metric_declarations (
    metric_id text PRIMARY KEY,
    declared_at timestamptz NOT NULL,
    undeclared_since timestamptz
);

COMMENT ON TABLE metric_declarations IS 'When a running ingest process last said that it computes a metric.';
COMMENT ON COLUMN metric_declarations.undeclared_since IS
'When a running process without the metric first found that no other has it; NULL while one has.';

INSERT INTO metric_declarations (metric_id, declared_at)
SELECT
    metric_id,
    clock_timestamp()
FROM metric_versions
WHERE superseded_at IS NULL
ON CONFLICT DO NOTHING;

CREATE OR REPLACE VIEW metric_service AS
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
    least(
        retired_at,
        coalesce(
            min(available_from) OVER (
                PARTITION BY metric_name ORDER BY version ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
            ),
            timestamptz 'infinity'
        )
    ) AS served_until
FROM metric_versions;
