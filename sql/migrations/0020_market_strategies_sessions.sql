-- What the marts by minute remember, so that a run computes only the minutes that changed.

CREATE TABLE mart_progress (
    mart text PRIMARY KEY,
    landed_until timestamptz NOT NULL DEFAULT '-infinity',
    running_until timestamptz NOT NULL DEFAULT '-infinity'
);

COMMENT ON TABLE mart_progress IS 'How far each mart has come in the ledger; written in the transaction that fills the mart.';
COMMENT ON COLUMN mart_progress.landed_until IS 'Batches committed until then are in the mart.';
COMMENT ON COLUMN mart_progress.running_until IS 'Where the run at work, or the last one, ends.';

ALTER TABLE market_analytics
ADD COLUMN prices_count bigint,
ADD COLUMN spreads_count bigint,
ADD COLUMN spread_sum numeric,
ADD COLUMN return_square_sum double precision;

COMMENT ON COLUMN market_analytics.volume IS 'Quantity of our fills.';
COMMENT ON COLUMN market_analytics.volatility IS 'Realized, of the bucket, not annualized: root of return_square_sum.';
COMMENT ON COLUMN market_analytics.prices_count IS 'Prices behind open, high, low and close.';
COMMENT ON COLUMN market_analytics.return_square_sum IS 'Sum of the squared log returns from each price to the next.';

ALTER TABLE user_behavior ADD COLUMN minutes jsonb;

COMMENT ON COLUMN user_behavior.minutes IS 'Per minute with events: first and last time, and events by type.';

ALTER TABLE strategy_performance
ADD COLUMN pnl_square_sum numeric,
ADD COLUMN highest_pnl numeric,
ADD COLUMN lowest_pnl numeric,
ADD COLUMN latency_sum numeric,
ADD COLUMN latency_count bigint,
ADD COLUMN name_since timestamptz;

COMMENT ON COLUMN strategy_performance.highest_pnl IS 'The highest that the running sum of pnl in the bucket came, at least 0.';
COMMENT ON COLUMN strategy_performance.lowest_pnl IS 'The lowest that the running sum of pnl in the bucket came, at most 0.';
COMMENT ON COLUMN strategy_performance.name_since IS 'Time of the strategy.started that gave the name.';
