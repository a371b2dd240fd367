-- Partitions: created ahead of time, never by an event's timestamp.

-- Creates the partition of one UTC day of events, unless it is there.
-- CREATE … LIKE and ATTACH take no lock that blocks landings; the CHECK spares ATTACH its scan.
CREATE FUNCTION create_event_partition(day date) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    name text := 'events_p' || to_char(day, 'YYYYMMDD');
    lower_bound text := to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00';
    upper_bound text := to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00';
BEGIN
    IF to_regclass(format('%I', name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL)', name);
    EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT in_range CHECK (timestamp >= %L AND timestamp < %L)', name, lower_bound, upper_bound
    );
    EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, lower_bound, upper_bound);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT in_range', name);
    RETURN true;
END
$$;

-- Creates the partitions that hold one time of one level: a month of 1m to 1h, a year of 1d.
CREATE FUNCTION create_rollup_partitions(level text, at timestamptz) RETURNS integer
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
                'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                name, parent || '_' || level, lower_bound::text || '+00', upper_bound::text || '+00'
            );
            created := created + 1;
        END IF;
    END LOOP;
    RETURN created;
END
$$;
