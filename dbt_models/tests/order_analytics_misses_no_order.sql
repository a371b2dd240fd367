{{ config(meta={'dagster': {'ref': {'name': 'order_analytics'}}}) }}
-- Orders whose events landed before the mart's last run, and that it doesn't have.
-- NOT EXISTS, which looks into the mart's index: NOT IN would read all of the mart for each event once its orders no
-- longer fit in memory.
SELECT landed.order_id
FROM (
    SELECT DISTINCT {{ order_id('raw') }} AS order_id
    FROM {{ source('analytics', 'events') }} AS raw
    INNER JOIN {{ source('analytics', 'mart_progress') }} AS progress
        ON
            progress.mart = 'order_analytics'
            AND progress.landed_until - interval '{{ var("landing_overlap") }}' > raw.created_at
    WHERE
        raw.timestamp >= greatest(
            now() - interval '1 hour', (SELECT state.raw_floor FROM {{ source('analytics', 'retention_state') }} AS state)
        )
        AND raw.timestamp < now()
        AND raw.event_type IN ({{ order_event_types() }})
) AS landed
WHERE
    landed.order_id IS NOT NULL
    AND NOT EXISTS (
        SELECT FROM {{ ref('order_analytics') }} AS mart
        WHERE mart.order_id = landed.order_id
    )
