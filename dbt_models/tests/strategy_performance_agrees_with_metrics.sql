{{ config(meta={'dagster': {'ref': {'name': 'strategy_performance'}}}) }}
-- Settled hours in which a metric counts or sums otherwise than the mart, which computed its own numbers from raw events.
-- A metric reads a value as a double and rounds it to 1e-9. Only names that begin with a letter: of others, marts and metrics
-- may write the same number differently, and a metric gathers what is beyond its budget under a name of its own.
SELECT
    'trading.order_latency' AS metric_name,
    settled.time_bucket,
    settled.dimensions,
    settled.count,
    settled.sum_exact,
    mart.latency_count AS count_here,
    mart.latency_sum AS sum_here
FROM ({{ settled_hours('strategy_performance', 'trading.order_latency') }}) AS hours
INNER JOIN {{ source('analytics', 'metric_aggregations') }} AS settled
    ON
        hours.metric_id = settled.metric_id
        AND settled.interval = '1h'
        AND hours.hour = settled.time_bucket
        AND settled.dimension_set = 'strategy_id'
LEFT JOIN {{ ref('strategy_performance') }} AS mart
    ON
        settled.interval = mart.interval
        AND settled.time_bucket = mart.time_bucket
        AND settled.dimensions ->> 'strategy_id' = mart.strategy_id
WHERE
    settled.dimensions ->> 'strategy_id' ~ '^[A-Za-z]'
    AND (
        settled.count <> coalesce(mart.latency_count, 0)
        OR abs(settled.sum_exact - coalesce(mart.latency_sum, 0)) > 1e-9 * settled.count + 1e-12 * abs(settled.sum_exact)
    )
UNION ALL
SELECT
    'trading.realized_pnl' AS metric_name,
    settled.time_bucket,
    settled.dimensions,
    settled.count,
    settled.sum_exact,
    mart.total_trades AS count_here,
    mart.total_pnl AS sum_here
FROM ({{ settled_hours('strategy_performance', 'trading.realized_pnl') }}) AS hours
INNER JOIN {{ source('analytics', 'metric_aggregations') }} AS settled
    ON
        hours.metric_id = settled.metric_id
        AND settled.interval = '1h'
        AND hours.hour = settled.time_bucket
        AND settled.dimension_set = 'strategy_id'
LEFT JOIN {{ ref('strategy_performance') }} AS mart
    ON
        settled.interval = mart.interval
        AND settled.time_bucket = mart.time_bucket
        AND settled.dimensions ->> 'strategy_id' = mart.strategy_id
WHERE
    settled.dimensions ->> 'strategy_id' ~ '^[A-Za-z]'
    AND (
        settled.count <> coalesce(mart.total_trades, 0)
        OR abs(settled.sum_exact - coalesce(mart.total_pnl, 0))
        > 1e-9 * settled.count + 1e-12 * coalesce(mart.gross_profit + mart.gross_loss, 0)
    )
