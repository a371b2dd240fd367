-- A question about a series is answered from an index alone. In the table the rows of one minute stand together, hundreds of
-- series beside one another: a day of one series at 1m was 1,440 pages of the table or more, and is some twenty of this index.
-- What is asked for by equality comes first, then the time: with more of it behind the time, the planner of PostgreSQL 18
-- reckons with a search for each value in between, and took the index by time, with all series of the metric.

CREATE UNIQUE INDEX metric_aggregations_covering_key
ON metric_aggregations (metric_name, metric_id, dimension_set, interval, time_bucket, dimensions)
INCLUDE (count, sum, sum_exact, min, max, p50, p95, p99, distinct_count, first, last);
DROP INDEX metric_aggregations_series_key;
ALTER INDEX metric_aggregations_covering_key RENAME TO metric_aggregations_series_key;

CREATE UNIQUE INDEX metric_states_ordered_key
ON metric_states (metric_id, dimension_set, interval, time_bucket, dimensions);
DROP INDEX metric_states_series_key;
ALTER INDEX metric_states_ordered_key RENAME TO metric_states_series_key;

-- An index answers alone where vacuum has been since rows were added. By default that is after a fifth of a partition:
-- six days of a month at 1m.
DO $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN
        SELECT tree.relid FROM pg_partition_tree('metric_aggregations') AS tree WHERE tree.isleaf
    LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_vacuum_insert_scale_factor = 0.02)', leaf);
    END LOOP;
END
$$;

-- As before, and with that.
CREATE OR REPLACE FUNCTION create_rollup_partitions(level text, at timestamptz) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    parent text;
    name text;
    created integer := 0;
    unit text := CASE level WHEN '1d' THEN 'year' ELSE 'month' END;
    lower_bound timestamp := date_trunc(unit, at AT TIME ZONE 'UTC');
    upper_bound timestamp := lower_bound + ('1 ' || unit)::interval;
BEGIN
    FOREACH parent IN ARRAY ARRAY['metric_aggregations', 'metric_states', 'metric_buckets'] LOOP
        name := parent || '_' || level || '_p' || to_char(lower_bound, CASE level WHEN '1d' THEN 'YYYY' ELSE 'YYYYMM' END);
        IF to_regclass(format('%I', name)) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L) %s',
                name, parent || '_' || level, lower_bound::text || '+00', upper_bound::text || '+00',
                CASE parent WHEN 'metric_aggregations' THEN 'WITH (autovacuum_vacuum_insert_scale_factor = 0.02)' END
            );
            created := created + 1;
        END IF;
    END LOOP;
    RETURN created;
END
$$;
