{{ config(meta={'dagster': {'ref': {'name': 'market_analytics'}}}) }}
-- Buckets whose open or close is not between low and high, or whose volume has no trade.
SELECT
    mart.symbol,
    mart.interval,
    mart.time_bucket
FROM {{ ref('market_analytics') }} AS mart
WHERE
    mart.time_bucket >= now() - interval '2 days'
    AND mart.prices_count IS NOT NULL
    AND (
        mart.open NOT BETWEEN mart.low AND mart.high
        OR mart.close NOT BETWEEN mart.low AND mart.high
        OR (mart.volume <> 0 AND mart.trades_count = 0)
    )
