{#-
Which minutes a run computes, for marts whose rows are made of minutes.

`begin_run` and `end_run` are the model's hooks, in the transaction that fills it: the mart and how far it has come in
the ledger move together. A run takes at most `landings_per_run` batches with `events_per_run` events, so that a mart
that is new, or was away for long, catches up in steps.
-#}
{% macro begin_run() %}
INSERT INTO {{ source('analytics', 'mart_progress') }} AS progress (mart, running_until)
WITH waiting AS (
    SELECT
        batch.committed_at,
        sum(batch.stored) OVER (ORDER BY batch.committed_at) AS stored
    FROM (
        SELECT
            ledger.committed_at,
            ledger.stored
        FROM {{ source('analytics', 'ingest_batches') }} AS ledger
        WHERE ledger.committed_at > coalesce(
            (SELECT known.landed_until FROM {{ source('analytics', 'mart_progress') }} AS known WHERE known.mart = '{{ this.identifier }}'),
            '-infinity'
        )
        ORDER BY ledger.committed_at
        LIMIT {{ var('landings_per_run') }}
    ) AS batch
)

SELECT
    '{{ this.identifier }}',
    CASE
        WHEN count(*) < {{ var('landings_per_run') }} AND coalesce(max(stored), 0) <= {{ var('events_per_run') }} THEN now()
        ELSE coalesce(max(committed_at) FILTER (WHERE stored <= {{ var('events_per_run') }}), min(committed_at))
    END
FROM waiting
ON CONFLICT (mart) DO UPDATE SET running_until = excluded.running_until
{% endmacro %}

{% macro end_run() %}
UPDATE {{ source('analytics', 'mart_progress') }} SET landed_until = running_until WHERE mart = '{{ this.identifier }}'
{% endmacro %}

{#-
The CTE `changed_minutes`: minutes that have an event of a batch of this run. The ledger names the hours, also those of
late events; in them, a minute changed if its deltas are pending or were merged since. Both halves and the events are of
one snapshot. Minutes before the raw floor, or before the first partition of the mart, are as they are for good.
-#}
{% macro changed_minutes(partitions_of) %}
run AS (
    SELECT
        progress.landed_until - interval '{{ var("landing_overlap") }}' AS since,
        progress.running_until AS until,
        greatest(
            (SELECT state.raw_floor FROM {{ source('analytics', 'retention_state') }} AS state),
            (
                SELECT min(kept.lower_bound)
                FROM {{ source('analytics', 'time_partitions') }} AS kept
                WHERE kept.parent = '{{ partitions_of }}'
            )
        ) AS oldest
    FROM {{ source('analytics', 'mart_progress') }} AS progress
    WHERE progress.mart = '{{ this.identifier }}'
),

changed_hours AS (
    SELECT DISTINCT hours.hour
    FROM run
    INNER JOIN {{ source('analytics', 'ingest_batches') }} AS batch
        ON run.since <= batch.committed_at AND run.until >= batch.committed_at
    CROSS JOIN unnest(batch.hours) AS hours (hour)
),

changed_minutes AS (
    SELECT changed.minute
    FROM (
        SELECT bucket.time_bucket AS minute
        FROM changed_hours
        CROSS JOIN run
        INNER JOIN {{ source('analytics', 'metric_buckets') }} AS bucket
            ON
                bucket.interval = '1m'
                AND changed_hours.hour <= bucket.time_bucket
                AND changed_hours.hour + interval '1 hour' > bucket.time_bucket
                AND run.since <= bucket.computed_at
        UNION
        SELECT deltas.minute
        FROM changed_hours
        INNER JOIN {{ source('analytics', 'rollup_deltas') }} AS deltas
            ON changed_hours.hour = deltas.hour AND deltas.kind = 'register'
    ) AS changed
    CROSS JOIN run
    WHERE changed.minute >= run.oldest
)
{% endmacro %}
