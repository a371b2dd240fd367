{{ config(meta={'dagster': {'ref': {'name': 'market_analytics'}}}) }}
-- Settled hours in which a metric counts otherwise than the mart, which computed its own numbers from raw events.
-- Only names that begin with a letter: of others, marts and metrics may write the same number differently, and a metric
-- gathers what is beyond its budget under a name of its own.
SELECT
    'trading.orders_filled' AS metric_name,
    settled.time_bucket,
    settled.dimensions,
    settled.count,
    settled.sum_exact,
    mart.trades_count AS count_here,
    NULL::numeric AS sum_here
FROM ({{ settled_hours('market_analytics', 'trading.orders_filled') }}) AS hours
INNER JOIN {{ source('analytics', 'metric_aggregations') }} AS settled
    ON
        hours.metric_id = settled.metric_id
        AND settled.interval = '1h'
        AND hours.hour = settled.time_bucket
        AND settled.dimension_set = 'symbol'
LEFT JOIN {{ ref('market_analytics') }} AS mart
    ON
        settled.interval = mart.interval
        AND settled.time_bucket = mart.time_bucket
        AND settled.dimensions ->> 'symbol' = mart.symbol
WHERE
    settled.dimensions ->> 'symbol' ~ '^[A-Za-z]'
    AND (settled.count <> coalesce(mart.trades_count, 0))
