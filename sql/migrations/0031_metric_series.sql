-- Which series of a metric have a place of their own in a UTC day; the others are counted as __other__.

CREATE TABLE metric_series (
    day date NOT NULL,
    metric_id text NOT NULL,
    dimension_set text NOT NULL,
    dimensions jsonb NOT NULL,
    PRIMARY KEY (day, metric_id, dimension_set, dimensions)
);

COMMENT ON TABLE metric_series IS
'Series with a place in their UTC day, as many as the budget of the metric; a row is never changed, and removed only with the 1d rows.';

-- What has rows of its own keeps them, however many there are.
INSERT INTO metric_series (day, metric_id, dimension_set, dimensions)
SELECT
    (time_bucket AT TIME ZONE 'UTC')::date,
    metric_id,
    dimension_set,
    dimensions
FROM metric_aggregations
WHERE interval = '1d' AND dimension_set <> ''
UNION
SELECT
    (minute AT TIME ZONE 'UTC')::date,
    metric_id,
    dimension_set,
    dimensions
FROM rollup_deltas
WHERE dimension_set <> '';
