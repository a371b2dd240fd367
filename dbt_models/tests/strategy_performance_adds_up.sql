{{ config(meta={'dagster': {'ref': {'name': 'strategy_performance'}}}) }}
-- Buckets whose profit and loss are not what they sum to, or that fell further than from the top to the bottom.
SELECT
    mart.strategy_id,
    mart.interval,
    mart.time_bucket
FROM {{ ref('strategy_performance') }} AS mart
WHERE
    mart.time_bucket >= now() - interval '2 days'
    AND mart.pnl_square_sum IS NOT NULL
    AND (
        mart.total_pnl <> mart.gross_profit - mart.gross_loss
        OR mart.total_trades < mart.winning_trades + mart.losing_trades
        OR mart.max_drawdown > (mart.highest_pnl - mart.lowest_pnl)::double precision * 1.000001
    )
