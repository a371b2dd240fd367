-- Marts: the original service's derived tables. Migrations own them; dbt and the processes fill them.

CREATE TABLE order_analytics (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    order_id varchar(255) NOT NULL,
    user_id varchar(255),
    symbol varchar(255),
    side varchar(50),
    order_type varchar(50),
    price numeric,
    quantity numeric,
    filled_quantity numeric DEFAULT 0,
    status varchar(50),
    strategy_id varchar(255),
    latency_ms double precision,
    is_maker boolean,
    commission numeric,
    pnl numeric,
    timestamp timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    landed_at timestamptz,
    event_minutes timestamptz[],
    PRIMARY KEY (timestamp, id)
) PARTITION BY RANGE (timestamp);

CREATE INDEX order_analytics_order_id_idx ON order_analytics (order_id);
CREATE INDEX order_analytics_symbol_timestamp_idx ON order_analytics (symbol, timestamp);
CREATE INDEX order_analytics_strategy_id_timestamp_idx ON order_analytics (strategy_id, timestamp);
CREATE INDEX order_analytics_landed_at_idx ON order_analytics (landed_at);

COMMENT ON TABLE order_analytics IS 'One row per order, from its raw events; timestamp is that of its first event.';
COMMENT ON COLUMN order_analytics.landed_at IS 'When the newest of its events landed: where the next incremental run begins.';
COMMENT ON COLUMN order_analytics.event_minutes IS 'The minutes that hold its events, so that a late event finds the others.';

CREATE TABLE user_behavior (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id varchar(255) NOT NULL,
    session_id varchar(255) NOT NULL,
    session_start timestamptz NOT NULL,
    session_end timestamptz,
    duration integer DEFAULT 0,
    page_views integer DEFAULT 0,
    event_count integer DEFAULT 0,
    unique_event_types integer DEFAULT 0,
    properties jsonb DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_start, id)
) PARTITION BY RANGE (session_start);

CREATE INDEX user_behavior_user_id_idx ON user_behavior (user_id, session_start);
CREATE INDEX user_behavior_session_id_idx ON user_behavior (session_id);

COMMENT ON TABLE user_behavior IS 'One row per session.';
COMMENT ON COLUMN user_behavior.duration IS 'Seconds.';

CREATE TABLE strategy_performance (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    strategy_id varchar(255) NOT NULL,
    strategy_name varchar(255),
    time_bucket timestamptz NOT NULL,
    interval varchar(10) NOT NULL,
    total_trades bigint DEFAULT 0,
    winning_trades bigint DEFAULT 0,
    losing_trades bigint DEFAULT 0,
    total_pnl numeric DEFAULT 0,
    gross_profit numeric DEFAULT 0,
    gross_loss numeric DEFAULT 0,
    avg_win numeric,
    avg_loss numeric,
    largest_win numeric,
    largest_loss numeric,
    win_rate double precision,
    profit_factor double precision,
    sharpe_ratio double precision,
    max_drawdown double precision,
    avg_latency_ms double precision,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (time_bucket, id)
) PARTITION BY RANGE (time_bucket);

CREATE INDEX strategy_performance_strategy_id_idx ON strategy_performance (strategy_id, interval, time_bucket);

COMMENT ON TABLE strategy_performance IS 'Trading results per strategy and bucket.';

CREATE TABLE market_analytics (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    symbol varchar(255) NOT NULL,
    time_bucket timestamptz NOT NULL,
    interval varchar(10) NOT NULL,
    open numeric,
    high numeric,
    low numeric,
    close numeric,
    volume numeric DEFAULT 0,
    trades_count bigint DEFAULT 0,
    avg_spread double precision,
    volatility double precision,
    created_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY LIST (interval);

-- The fine intervals are kept for a shorter time, so they are partitioned apart.
CREATE TABLE market_analytics_fine PARTITION OF market_analytics
FOR VALUES IN ('1m', '5m') PARTITION BY RANGE (time_bucket);
CREATE TABLE market_analytics_coarse PARTITION OF market_analytics DEFAULT PARTITION BY RANGE (time_bucket);

CREATE INDEX market_analytics_symbol_idx ON market_analytics (symbol, interval, time_bucket);

COMMENT ON TABLE market_analytics IS 'Open, high, low, close, volume and spread per symbol and bucket.';

CREATE TABLE system_metrics (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    service_name varchar(255) NOT NULL,
    metric_type varchar(50) NOT NULL,
    time_bucket timestamptz NOT NULL,
    value double precision NOT NULL,
    dimensions jsonb DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (time_bucket, id)
) PARTITION BY RANGE (time_bucket);

CREATE INDEX system_metrics_service_name_idx ON system_metrics (service_name, metric_type, time_bucket);

COMMENT ON TABLE system_metrics IS 'Latency, throughput, error rate, cpu and memory of each process, by minute.';

-- Creates the month's partitions of the marts that hold one time.
CREATE FUNCTION create_mart_partitions(at timestamptz) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    parent text;
    name text;
    created integer := 0;
    lower_bound timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    upper_bound timestamp := lower_bound + interval '1 month';
BEGIN
    FOREACH parent IN ARRAY ARRAY[
        'order_analytics', 'user_behavior', 'strategy_performance', 'market_analytics_fine', 'market_analytics_coarse',
        'system_metrics'
    ] LOOP
        name := parent || '_p' || to_char(lower_bound, 'YYYYMM');
        IF to_regclass(format('%I', name)) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                name, parent, lower_bound::text || '+00', upper_bound::text || '+00'
            );
            created := created + 1;
        END IF;
    END LOOP;
    RETURN created;
END
$$;

-- The dashboard's numbers at the last refresh, from settled plus pending rollups. Distinct counts come from raw,
-- over five minutes, because states are merged outside Postgres.
CREATE MATERIALIZED VIEW dashboard_metrics AS
WITH window_end AS (
    SELECT
        now() AS now,
        date_trunc('minute', now()) AS minute
),

counted AS (
    SELECT
        coalesce(
            sum(live.count) FILTER (
                WHERE live.metric_name = 'events.count' AND live.time_bucket >= window_end.minute - interval '1 minute'
            ),
            0
        )::double precision
        / extract(EPOCH FROM max(window_end.now - window_end.minute) + interval '1 minute')::double precision AS events_per_second,
        coalesce(sum(live.count) FILTER (WHERE live.metric_name = 'trading.orders_placed'), 0)::bigint AS orders_placed_1h,
        coalesce(sum(live.count) FILTER (WHERE live.metric_name = 'trading.orders_filled'), 0)::bigint AS orders_filled_1h
    FROM window_end
    LEFT JOIN metrics_live AS live
        ON
            live.interval = '1m'
            AND live.dimension_set = ''
            AND live.metric_name IN ('events.count', 'trading.orders_placed', 'trading.orders_filled')
            AND window_end.minute - interval '1 hour' <= live.time_bucket
            AND window_end.minute >= live.time_bucket
),

active AS (
    SELECT
        count(DISTINCT recent.user_id) AS users,
        count(DISTINCT recent.properties ->> 'strategy_id') AS strategies
    FROM events AS recent
    CROSS JOIN window_end
    WHERE recent.timestamp >= window_end.minute - interval '5 minutes' AND recent.timestamp <= window_end.now
)

SELECT
    active.users AS active_users,
    counted.events_per_second,
    counted.orders_placed_1h,
    counted.orders_filled_1h,
    active.strategies AS active_strategies,
    window_end.now AS last_updated
FROM window_end
CROSS JOIN counted
CROSS JOIN active;

-- There is one row: this lets the refresh run beside readers.
CREATE UNIQUE INDEX dashboard_metrics_last_updated_key ON dashboard_metrics (last_updated);

COMMENT ON MATERIALIZED VIEW dashboard_metrics IS 'One row; SELECT refresh_dashboard_metrics() brings it up to date.';

CREATE FUNCTION refresh_dashboard_metrics() RETURNS void
LANGUAGE sql
AS $$
REFRESH MATERIALIZED VIEW CONCURRENTLY dashboard_metrics
$$;
