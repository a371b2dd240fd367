-- Removal by plain SQL that never fails as a whole, and no partitions that retention has removed or would at once.

-- Creates the partition of one UTC day of events, unless it is there, or was removed: nothing can land in it any more.
-- CREATE … LIKE and ATTACH take no lock that blocks landings; the CHECK spares ATTACH its scan.
CREATE OR REPLACE FUNCTION create_event_partition(day date) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    name text := 'events_p' || to_char(day, 'YYYYMMDD');
    lower_bound text := to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00';
    upper_bound text := to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00';
BEGIN
    IF
        to_regclass(format('%I', name)) IS NOT NULL
        OR EXISTS (SELECT FROM frozen_days WHERE frozen_days.day = create_event_partition.day)
    THEN
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

-- Creates the month's partitions of the marts that hold one time, but for those that retention would remove at once.
CREATE OR REPLACE FUNCTION create_mart_partitions(at timestamptz) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    mart text;
    name text;
    created integer := 0;
    lower_bound timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    upper_bound timestamp := lower_bound + interval '1 month';
BEGIN
    FOREACH mart IN ARRAY ARRAY[
        'order_analytics', 'user_behavior', 'strategy_performance', 'market_analytics_fine', 'market_analytics_coarse',
        'system_metrics'
    ] LOOP
        name := mart || '_p' || to_char(lower_bound, 'YYYYMM');
        IF to_regclass(format('%I', name)) IS NULL AND NOT EXISTS (
            SELECT FROM retention_policies AS policy
            WHERE policy.parent = mart AND upper_bound AT TIME ZONE 'UTC' <= retention_line(policy.keep)
        ) THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                name, mart, lower_bound::text || '+00', upper_bound::text || '+00'
            );
            created := created + 1;
        END IF;
    END LOOP;
    RETURN created;
END
$$;

-- Why one call of cleanup_old_data() should end, or NULL.
CREATE FUNCTION cleanup_has_enough(removed integer, waited integer) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
SELECT CASE
    WHEN removed >= 31 THEN 'enough for one call: call again'
    WHEN waited >= 3 THEN 'running queries hold too much: call again'
END
$$;

-- As before, but that a left-over table which somebody holds is told of, like every other; that three locks are waited
-- for in vain, no more, because landings wait meanwhile; and that what was archived for a policy which asks for no
-- archive any more goes, too.
CREATE OR REPLACE FUNCTION cleanup_old_data()
RETURNS TABLE (
    parent text, partition text, lower_bound timestamptz, upper_bound timestamptz, action text, reason text
)
LANGUAGE plpgsql
SET lock_timeout = '200ms'
SET timezone = 'UTC'
AS $$
DECLARE
    candidate record;
    floor_is_ours boolean := false;
    removed integer := 0;
    waited integer := 0;
    enough text;
BEGIN
    IF NOT pg_try_advisory_xact_lock(25006, 0) THEN
        RETURN QUERY SELECT 'events'::text, NULL::text, NULL::timestamptz, NULL::timestamptz,
            'skipped'::text, 'the retention asset is at work'::text;
        RETURN;
    END IF;
    FOR attempt IN 1..10 LOOP
        BEGIN
            PERFORM pg_advisory_xact_lock(25001, 0);
            floor_is_ours := true;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.05);
        END;
    END LOOP;
    IF NOT floor_is_ours THEN
        RETURN QUERY SELECT 'events'::text, NULL::text, NULL::timestamptz, NULL::timestamptz,
            'skipped'::text, 'landings hold the floor lock: try again'::text;
        RETURN;
    END IF;
    UPDATE retention_state AS state
    SET raw_floor = greatest(state.raw_floor, retention_line(policy.keep))
    FROM retention_policies AS policy
    WHERE policy.kind = 'raw';

    FOR candidate IN
        SELECT removal.parent, removal.partition, removal.lower_bound, removal.upper_bound
        FROM retention_removals AS removal
        INNER JOIN retention_policies AS policy ON removal.parent = policy.parent
        WHERE
            removal.state = ANY(CASE WHEN policy.must_archive THEN '{verified}' ELSE '{detaching, detached, archived, verified}' END::text [])
            AND NOT EXISTS (SELECT FROM time_partitions AS known WHERE known.partition = removal.partition)
    LOOP
        parent := candidate.parent;
        partition := candidate.partition;
        lower_bound := candidate.lower_bound;
        upper_bound := candidate.upper_bound;
        action := 'skipped';
        reason := enough;
        IF reason IS NULL THEN
            BEGIN
                EXECUTE format('DROP TABLE IF EXISTS %I', candidate.partition);
                UPDATE retention_removals AS removal
                SET state = 'dropped', run_id = 'cleanup_old_data', changed_at = clock_timestamp()
                WHERE removal.partition = candidate.partition;
                action := 'dropped';
                reason := 'it was detached already';
                removed := removed + 1;
            EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
                reason := 'it was detached already, and a running query holds it';
                waited := waited + 1;
            END;
            enough := cleanup_has_enough(removed, waited);
        END IF;
        RETURN NEXT;
    END LOOP;

    FOR candidate IN
        SELECT known.parent, known.partition, known.lower_bound, known.upper_bound, known.is_detaching, known.bytes,
            policy.kind, policy.must_archive
        FROM time_partitions AS known
        INNER JOIN retention_policies AS policy ON known.parent = policy.parent
        WHERE known.upper_bound <= retention_line(policy.keep)
        ORDER BY policy.kind <> 'raw', known.upper_bound, known.partition
    LOOP
        parent := candidate.parent;
        partition := candidate.partition;
        lower_bound := candidate.lower_bound;
        upper_bound := candidate.upper_bound;
        action := 'skipped';
        reason := CASE
            WHEN enough IS NOT NULL THEN enough
            WHEN candidate.is_detaching THEN 'the retention asset began to remove it and will finish'
            ELSE retention_obstacle(candidate.kind, candidate.must_archive, candidate.lower_bound, candidate.upper_bound)
        END;
        IF reason IS NULL THEN
            BEGIN
                IF candidate.kind = 'raw' THEN
                    INSERT INTO frozen_days (day)
                    VALUES ((candidate.lower_bound AT TIME ZONE 'UTC')::date)
                    ON CONFLICT DO NOTHING;
                END IF;
                EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', candidate.parent, candidate.partition);
                EXECUTE format('DROP TABLE %I', candidate.partition);
                INSERT INTO retention_removals AS removal (partition, parent, lower_bound, upper_bound, state, bytes, run_id)
                VALUES (
                    candidate.partition, candidate.parent, candidate.lower_bound, candidate.upper_bound,
                    'dropped', candidate.bytes, 'cleanup_old_data'
                )
                ON CONFLICT ON CONSTRAINT retention_removals_pkey DO UPDATE
                SET state = 'dropped', run_id = excluded.run_id, changed_at = clock_timestamp();
                action := 'dropped';
                removed := removed + 1;
            EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
                reason := 'a running query holds it';
                waited := waited + 1;
            END;
            enough := cleanup_has_enough(removed, waited);
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION cleanup_old_data() IS 'Removes expired partitions and says what went, what stayed and why.';
