{{ config(meta={'dagster': {'ref': {'name': 'order_analytics'}}}) }}
-- Orders whose events landed well before the newest row of the mart, and that it doesn't have.
SELECT DISTINCT {{ order_id('raw') }} AS order_id
FROM {{ source('analytics', 'events') }} AS raw
WHERE
    raw.timestamp >= greatest(
        now() - interval '1 hour', (SELECT state.raw_floor FROM {{ source('analytics', 'retention_state') }} AS state)
    )
    AND raw.timestamp < now()
    AND raw.event_type IN ({{ order_event_types() }})
    AND raw.created_at < (SELECT max(mart.landed_at) - interval '1 minute' FROM {{ ref('order_analytics') }} AS mart)
    AND {{ order_id('raw') }} NOT IN (SELECT mart.order_id FROM {{ ref('order_analytics') }} AS mart)
