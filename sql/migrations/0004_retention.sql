-- Retention: policies, the floor's bookkeeping, and removal without Dagster.

CREATE TABLE retention_policies (
    parent text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('raw', 'rollup', 'mart')),
    keep interval NOT NULL CHECK (keep > interval '0'),
    must_archive boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE retention_policies IS 'How long each table keeps its partitions; written from the settings by analytics migrate.';
COMMENT ON COLUMN retention_policies.must_archive IS 'A partition goes only after its archive is verified.';

CREATE TABLE retention_removals (
    partition text PRIMARY KEY,
    parent text NOT NULL,
    lower_bound timestamptz NOT NULL,
    upper_bound timestamptz NOT NULL,
    state text NOT NULL CHECK (
        state IN ('planned', 'merged', 'frozen', 'detaching', 'detached', 'archived', 'verified', 'dropped')
    ),
    bytes bigint,
    run_id text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX retention_removals_state_idx ON retention_removals (state);

COMMENT ON TABLE retention_removals IS 'How far the removal of each partition came: a killed run is resumed from here.';

CREATE TABLE frozen_days (
    day date PRIMARY KEY,
    frozen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE frozen_days IS 'UTC days whose raw events are going or gone: their rollups are never recomputed from live raw again.';

-- Every range partition of this schema, with its bounds in UTC.
CREATE VIEW time_partitions AS
SELECT
    parent.relname::text AS parent,
    child.relname::text AS partition,
    inherits.inhdetachpending AS is_detaching,
    substring(pg_get_expr(child.relpartbound, child.oid) FROM 'FROM \(''([^'']+)''\)')::timestamptz AS lower_bound,
    substring(pg_get_expr(child.relpartbound, child.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz AS upper_bound,
    pg_total_relation_size(child.oid) AS bytes
FROM pg_inherits AS inherits
INNER JOIN pg_class AS parent ON inherits.inhparent = parent.oid
INNER JOIN pg_class AS child ON inherits.inhrelid = child.oid
INNER JOIN pg_partitioned_table AS partitioned ON parent.oid = partitioned.partrelid
WHERE partitioned.partstrat = 'r' AND child.relkind IN ('r', 'p') AND pg_table_is_visible(parent.oid);

COMMENT ON VIEW time_partitions IS 'Partitions by time and their bounds; bytes include indexes.';

-- The time before which a policy lets go: whole UTC days.
CREATE FUNCTION retention_line(keep interval) RETURNS timestamptz
LANGUAGE sql STABLE
AS $$
SELECT date_trunc('day', now() - keep, 'UTC')
$$;

-- What stands against removing a partition of raw events or rollups now, or NULL. It asks for the day's hour locks.
CREATE FUNCTION retention_obstacle(kind text, must_archive boolean, lower_bound timestamptz, upper_bound timestamptz)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    hours_are_free boolean;
BEGIN
    IF must_archive THEN
        RETURN 'its archive is not verified: the retention asset archives it first';
    END IF;
    IF kind = 'mart' THEN
        RETURN NULL;
    END IF;
    IF upper_bound > (SELECT state.raw_floor FROM retention_state AS state) THEN
        RETURN 'it reaches beyond the raw floor';
    END IF;
    IF EXISTS (SELECT FROM rollup_deltas WHERE hour >= lower_bound AND hour < upper_bound) THEN
        RETURN 'it has pending deltas: merge them first';
    END IF;
    IF kind = 'raw' THEN
        SELECT bool_and(pg_try_advisory_xact_lock(25002, (extract(EPOCH FROM hours.hour) / 3600)::integer))
        INTO hours_are_free
        FROM generate_series(lower_bound, upper_bound - interval '1 hour', interval '1 hour') AS hours (hour);
        IF NOT hours_are_free THEN
            RETURN 'one of its hours is being merged or recomputed';
        END IF;
    END IF;
    RETURN NULL;
END
$$;

-- Removes what the policies let go, whole partitions at a time, in one transaction. Landings wait for it, so every
-- lock is waited for 200 ms at most and at most 31 partitions go in one call; the retention asset needs no such pause.
CREATE FUNCTION cleanup_old_data()
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
            removal.state = ANY(CASE WHEN policy.must_archive THEN '{verified}' ELSE '{detaching, detached, verified}' END::text [])
            AND NOT EXISTS (SELECT FROM time_partitions AS known WHERE known.partition = removal.partition)
    LOOP
        parent := candidate.parent;
        partition := candidate.partition;
        lower_bound := candidate.lower_bound;
        upper_bound := candidate.upper_bound;
        action := 'dropped';
        reason := 'it was detached already';
        EXECUTE format('DROP TABLE IF EXISTS %I', candidate.partition);
        UPDATE retention_removals AS removal SET state = 'dropped', changed_at = clock_timestamp()
        WHERE removal.partition = candidate.partition;
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
            WHEN removed >= 31 THEN 'enough for one call: call again'
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
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION cleanup_old_data() IS 'Removes expired partitions and says what went, what stayed and why.';
