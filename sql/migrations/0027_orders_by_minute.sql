-- order_analytics follows changed minutes, like the other marts that dbt fills.

INSERT INTO mart_progress (mart, landed_until)
SELECT
    'order_analytics',
    max(landed_at)
FROM order_analytics
HAVING max(landed_at) IS NOT NULL
ON CONFLICT (mart) DO NOTHING;

DROP INDEX order_analytics_landed_at_idx;

COMMENT ON COLUMN order_analytics.landed_at IS 'When the newest of its events landed.';
