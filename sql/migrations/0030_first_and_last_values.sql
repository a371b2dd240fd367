-- First and last values: columns of the settled rows, and of metrics_live.

ALTER TABLE metric_aggregations ADD COLUMN first double precision, ADD COLUMN last double precision;

COMMENT ON COLUMN metric_aggregations.first IS 'Of metrics that keep it: the value of the first event, by time and id.';
COMMENT ON COLUMN metric_aggregations.last IS 'Of metrics that keep it: the value of the last event, by time and id.';

-- A state of kind 'ends' is the length of its first half in a byte, then two halves: 8 bytes of time, 16 of the event's
-- id, the value as text. So halves compare as (time, id) do.
CREATE FUNCTION first_half(state bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT substring(state FROM 2 FOR get_byte(state, 0)) $$;

CREATE FUNCTION last_half(state bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT substring(state FROM 2 + get_byte(state, 0)) $$;

CREATE FUNCTION value_of_half(half bytea) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT convert_from(substring(half FROM 25), 'UTF8')::double precision $$;

CREATE FUNCTION earlier_half(one bytea, other bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT least(one, other) $$;

CREATE FUNCTION later_half(one bytea, other bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT greatest(one, other) $$;

CREATE AGGREGATE earliest_half (bytea)(sfunc = earlier_half, stype = bytea, combinefunc = earlier_half, parallel = safe);
CREATE AGGREGATE latest_half (bytea)(sfunc = later_half, stype = bytea, combinefunc = later_half, parallel = safe);

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
    max(max) AS max,
    CASE
        WHEN count(ends) = 0 THEN max(first)
        ELSE value_of_half(least(earliest_half(first_half(ends)), first_half((
            SELECT settled.state FROM metric_states AS settled
            WHERE
                settled.metric_id = both_halves.metric_id AND settled.interval = both_halves.interval
                AND settled.time_bucket = both_halves.time_bucket
                AND settled.dimension_set = both_halves.dimension_set AND settled.dimensions = both_halves.dimensions
        ))))
    END AS first,
    CASE
        WHEN count(ends) = 0 THEN max(last)
        ELSE value_of_half(greatest(latest_half(last_half(ends)), last_half((
            SELECT settled.state FROM metric_states AS settled
            WHERE
                settled.metric_id = both_halves.metric_id AND settled.interval = both_halves.interval
                AND settled.time_bucket = both_halves.time_bucket
                AND settled.dimension_set = both_halves.dimension_set AND settled.dimensions = both_halves.dimensions
        ))))
    END AS last
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
        max,
        first,
        last,
        NULL::bytea AS ends
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
        deltas.max,
        NULL,
        NULL,
        CASE WHEN deltas.kind = 'ends' THEN deltas.state END
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
