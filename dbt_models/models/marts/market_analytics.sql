{{ config(
    unique_key=['symbol', 'interval', 'time_bucket'],
    pre_hook="{{ begin_run() }}",
    post_hook="{{ end_run() }}"
) }}
{{- require_migrated() -}}
{%- set columns = [
    'open', 'high', 'low', 'close', 'return_square_sum', 'prices_count', 'spreads_count', 'spread_sum', 'volume',
    'trades_count'
] -%}

-- Minutes that changed are computed anew from raw events; buckets above them from their minutes, most of which are rows
-- of this table. Every column is of a kind that can be put together exactly from parts in order of time.
WITH {{ changed_minutes('market_analytics_fine') }},

quotes AS (
    SELECT
        changed_minutes.minute,
        raw.timestamp,
        raw.id AS event_id,
        {{ text_property('raw', 'symbol') }} AS symbol,
        {{ number_property('raw', 'price') }} AS price,
        {{ number_property('raw', 'ask') }} - {{ number_property('raw', 'bid') }} AS spread
    FROM changed_minutes
    INNER JOIN {{ source('analytics', 'events') }} AS raw
        ON
            changed_minutes.minute <= raw.timestamp
            AND changed_minutes.minute + interval '1 minute' > raw.timestamp
            AND raw.event_type = 'market.data.update'
    WHERE raw.properties ->> 'symbol' IS NOT NULL
),

prices AS (
    SELECT
        symbol,
        minute,
        timestamp,
        event_id,
        price,
        ln(price::double precision / lag(price::double precision) OVER (PARTITION BY symbol, minute ORDER BY timestamp, event_id))
            AS log_return
    FROM quotes
    WHERE price > 0
),

prices_by_minute AS (
    SELECT
        symbol,
        minute,
        (array_agg(price ORDER BY timestamp, event_id))[1] AS open,
        max(price) AS high,
        min(price) AS low,
        (array_agg(price ORDER BY timestamp DESC, event_id DESC))[1] AS close,
        count(*) AS prices_count,
        coalesce(sum(log_return * log_return), 0) AS return_square_sum
    FROM prices
    GROUP BY symbol, minute
),

spreads_by_minute AS (
    SELECT
        symbol,
        minute,
        count(*) FILTER (WHERE spread >= 0) AS spreads_count,
        coalesce(sum(spread) FILTER (WHERE spread >= 0), 0) AS spread_sum
    FROM quotes
    GROUP BY symbol, minute
),

fills_by_minute AS (
    SELECT
        changed_minutes.minute,
        {{ text_property('raw', 'symbol') }} AS symbol,
        count(*) AS trades_count,
        coalesce(sum({{ number_property('raw', 'quantity') }}), 0) AS volume
    FROM changed_minutes
    INNER JOIN {{ source('analytics', 'events') }} AS raw
        ON
            changed_minutes.minute <= raw.timestamp
            AND changed_minutes.minute + interval '1 minute' > raw.timestamp
            AND raw.event_type = 'order.filled'
    WHERE raw.properties ->> 'symbol' IS NOT NULL
    GROUP BY changed_minutes.minute, {{ text_property('raw', 'symbol') }}
),

computed AS (
    SELECT
        symbol,
        minute,
        prices_by_minute.open,
        prices_by_minute.high,
        prices_by_minute.low,
        prices_by_minute.close,
        prices_by_minute.return_square_sum,
        coalesce(prices_by_minute.prices_count, 0) AS prices_count,
        coalesce(spreads_by_minute.spreads_count, 0) AS spreads_count,
        coalesce(spreads_by_minute.spread_sum, 0) AS spread_sum,
        coalesce(fills_by_minute.volume, 0) AS volume,
        coalesce(fills_by_minute.trades_count, 0) AS trades_count
    FROM spreads_by_minute
    LEFT JOIN prices_by_minute USING (symbol, minute)
    FULL JOIN fills_by_minute USING (symbol, minute)
),

{{ minutes_of_touched_buckets('symbol', columns, 'prices_count') }},

-- From the last price of a minute to the first of the next one that has any.
links AS (
    SELECT
        symbol,
        interval,
        time_bucket,
        sum(power(log_return, 2)) AS return_square_sum
    FROM (
        SELECT
            symbol,
            interval,
            time_bucket,
            ln(
                open::double precision
                / lag(close::double precision) OVER (PARTITION BY symbol, interval, time_bucket ORDER BY minute)
            ) AS log_return
        FROM parts
        WHERE prices_count > 0
    ) AS between_minutes
    GROUP BY symbol, interval, time_bucket
),

combined AS (
    SELECT
        symbol,
        interval,
        time_bucket,
        (array_agg(open ORDER BY minute) FILTER (WHERE prices_count > 0))[1] AS open,
        max(high) AS high,
        min(low) AS low,
        (array_agg(close ORDER BY minute DESC) FILTER (WHERE prices_count > 0))[1] AS close,
        sum(return_square_sum) AS return_square_sum,
        sum(prices_count)::bigint AS prices_count,
        sum(spreads_count)::bigint AS spreads_count,
        sum(spread_sum) AS spread_sum,
        sum(volume) AS volume,
        sum(trades_count)::bigint AS trades_count
    FROM parts
    GROUP BY symbol, interval, time_bucket
),

buckets AS (
    SELECT
        symbol,
        '1m' AS interval,
        minute AS time_bucket,
        open,
        high,
        low,
        close,
        return_square_sum,
        prices_count,
        spreads_count,
        spread_sum,
        volume,
        trades_count
    FROM computed
    UNION ALL
    SELECT
        symbol,
        interval,
        time_bucket,
        combined.open,
        combined.high,
        combined.low,
        combined.close,
        combined.return_square_sum + coalesce(links.return_square_sum, 0),
        combined.prices_count,
        combined.spreads_count,
        combined.spread_sum,
        combined.volume,
        combined.trades_count
    FROM combined
    LEFT JOIN links USING (symbol, interval, time_bucket)
)

SELECT
    time_bucket,
    open,
    high,
    low,
    close,
    volume,
    trades_count,
    prices_count,
    spreads_count,
    spread_sum,
    return_square_sum,
    symbol::varchar(255) AS symbol,
    interval::varchar(10) AS interval,
    (spread_sum / nullif(spreads_count, 0))::double precision AS avg_spread,
    CASE WHEN prices_count > 1 THEN sqrt(return_square_sum) END AS volatility,
    md5(concat_ws('|', interval, extract(EPOCH FROM time_bucket), symbol))::uuid AS id,
    now() AS created_at
FROM buckets
