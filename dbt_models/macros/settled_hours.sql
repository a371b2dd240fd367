{#-
Hours of the last two days in which a mart and a metric must say the same, with the id of the metric's definition: all
that landed for the hour is merged and in the mart, and the definition was there in all of it and misses nothing.
-#}
{% macro settled_hours(mart, metric) %}
SELECT
    bucket.time_bucket AS hour,
    service.metric_id
FROM {{ source('analytics', 'metric_buckets') }} AS bucket
INNER JOIN {{ source('analytics', 'mart_progress') }} AS progress ON progress.mart = '{{ mart }}'
INNER JOIN {{ source('analytics', 'metric_service') }} AS service
    ON
        service.metric_name = '{{ metric }}'
        AND service.available_from <= bucket.time_bucket
        AND service.served_until > bucket.time_bucket
WHERE
    bucket.interval = '1h'
    AND bucket.time_bucket >= greatest(
        now() - interval '2 days', (SELECT state.raw_floor FROM {{ source('analytics', 'retention_state') }} AS state)
    )
    AND NOT EXISTS (
        SELECT FROM {{ source('analytics', 'rollup_deltas') }} AS deltas
        WHERE deltas.hour = bucket.time_bucket
    )
    AND NOT EXISTS (
        SELECT FROM {{ source('analytics', 'metric_gaps') }} AS gap
        WHERE gap.metric_id = service.metric_id AND gap.hour = bucket.time_bucket
    )
    AND NOT EXISTS (
        SELECT FROM {{ source('analytics', 'ingest_batches') }} AS batch
        WHERE
            batch.committed_at > progress.landed_until - interval '{{ var("landing_overlap") }}'
            AND bucket.time_bucket = ANY(batch.hours)
    )
{% endmacro %}
