{{ config(
    unique_key=['strategy_id', 'interval', 'time_bucket'],
    pre_hook="{{ begin_run() }}",
    post_hook="{{ end_run() }}"
) }}
{{- require_migrated() -}}
{%- set columns = [
    'total_trades', 'winning_trades', 'losing_trades', 'total_pnl', 'gross_profit', 'gross_loss', 'largest_win',
    'largest_loss', 'pnl_square_sum', 'highest_pnl', 'lowest_pnl', 'max_drawdown', 'latency_sum', 'latency_count'
] -%}

-- Minutes that changed are computed anew from raw events; buckets above them from their minutes, most of which are rows
-- of this table. Every column is of a kind that can be put together exactly from parts in order of time.
WITH {{ changed_minutes('strategy_performance') }},

fills AS (
    SELECT
        changed_minutes.minute,
        raw.timestamp,
        raw.id AS event_id,
        {{ text_property('raw', 'strategy_id') }} AS strategy_id,
        {{ number_property('raw', 'pnl') }} AS pnl,
        {{ number_property('raw', 'latency_ms') }} AS latency_ms
    FROM changed_minutes
    INNER JOIN {{ source('analytics', 'events') }} AS raw
        ON
            changed_minutes.minute <= raw.timestamp
            AND changed_minutes.minute + interval '1 minute' > raw.timestamp
            AND raw.event_type = 'order.filled'
    WHERE raw.properties ->> 'strategy_id' <> ''
),

starts AS (
    SELECT
        changed_minutes.minute,
        raw.timestamp,
        raw.id AS event_id,
        {{ text_property('raw', 'strategy_id') }} AS strategy_id,
        {{ text_property('raw', 'strategy_name') }} AS strategy_name
    FROM changed_minutes
    INNER JOIN {{ source('analytics', 'events') }} AS raw
        ON
            changed_minutes.minute <= raw.timestamp
            AND changed_minutes.minute + interval '1 minute' > raw.timestamp
            AND raw.event_type = 'strategy.started'
    WHERE raw.properties ->> 'strategy_id' <> '' AND raw.properties ->> 'strategy_name' <> ''
),

equity AS (
    SELECT
        strategy_id,
        minute,
        pnl,
        level,
        greatest(max(level) OVER (PARTITION BY strategy_id, minute ORDER BY timestamp, event_id), 0) AS peak
    FROM (
        SELECT
            fills.*,
            sum(fills.pnl) OVER (PARTITION BY fills.strategy_id, fills.minute ORDER BY fills.timestamp, fills.event_id) AS level
        FROM fills
        WHERE fills.pnl IS NOT NULL
    ) AS summed
),

trades_by_minute AS (
    SELECT
        strategy_id,
        minute,
        count(*) AS total_trades,
        count(*) FILTER (WHERE pnl > 0) AS winning_trades,
        count(*) FILTER (WHERE pnl < 0) AS losing_trades,
        sum(pnl) AS total_pnl,
        coalesce(sum(pnl) FILTER (WHERE pnl > 0), 0) AS gross_profit,
        coalesce(-sum(pnl) FILTER (WHERE pnl < 0), 0) AS gross_loss,
        max(pnl) FILTER (WHERE pnl > 0) AS largest_win,
        -min(pnl) FILTER (WHERE pnl < 0) AS largest_loss,
        sum(pnl * pnl) AS pnl_square_sum,
        greatest(max(level), 0) AS highest_pnl,
        least(min(level), 0) AS lowest_pnl,
        max(peak - level) AS max_drawdown
    FROM equity
    GROUP BY strategy_id, minute
),

latency_by_minute AS (
    SELECT
        strategy_id,
        minute,
        sum(latency_ms) AS latency_sum,
        count(latency_ms) AS latency_count
    FROM fills
    GROUP BY strategy_id, minute
),

-- A strategy that starts has a row, also before its first trade: its name is found there.
active AS (
    SELECT
        strategy_id,
        minute
    FROM latency_by_minute
    UNION
    SELECT
        strategy_id,
        minute
    FROM starts
),

computed AS (
    SELECT
        strategy_id,
        minute,
        trades.largest_win,
        trades.largest_loss,
        coalesce(trades.total_trades, 0) AS total_trades,
        coalesce(trades.winning_trades, 0) AS winning_trades,
        coalesce(trades.losing_trades, 0) AS losing_trades,
        coalesce(trades.total_pnl, 0) AS total_pnl,
        coalesce(trades.gross_profit, 0) AS gross_profit,
        coalesce(trades.gross_loss, 0) AS gross_loss,
        coalesce(trades.pnl_square_sum, 0) AS pnl_square_sum,
        coalesce(trades.highest_pnl, 0) AS highest_pnl,
        coalesce(trades.lowest_pnl, 0) AS lowest_pnl,
        coalesce(trades.max_drawdown, 0)::double precision AS max_drawdown,
        coalesce(latency.latency_sum, 0) AS latency_sum,
        coalesce(latency.latency_count, 0) AS latency_count
    FROM active
    LEFT JOIN trades_by_minute AS trades USING (strategy_id, minute)
    LEFT JOIN latency_by_minute AS latency USING (strategy_id, minute)
),

{{ minutes_of_touched_buckets('strategy_id', columns, 'pnl_square_sum') }},

-- The running sum at the start of each minute.
placed AS (
    SELECT
        parts.*,
        coalesce(
            sum(parts.total_pnl) OVER (
                PARTITION BY parts.strategy_id, parts.interval, parts.time_bucket ORDER BY parts.minute
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ),
            0
        ) AS pnl_before
    FROM parts
),

-- The deepest fall ends in some minute: it began in there, or at the highest point before it.
with_peaks AS (
    SELECT
        placed.*,
        greatest(
            max(placed.pnl_before + placed.highest_pnl) OVER (
                PARTITION BY placed.strategy_id, placed.interval, placed.time_bucket ORDER BY placed.minute
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ),
            0
        ) AS peak_before
    FROM placed
),

buckets AS (
    SELECT
        strategy_id,
        '1m' AS interval,
        minute AS time_bucket,
        total_trades,
        winning_trades,
        losing_trades,
        total_pnl,
        gross_profit,
        gross_loss,
        largest_win,
        largest_loss,
        pnl_square_sum,
        highest_pnl,
        lowest_pnl,
        max_drawdown,
        latency_sum,
        latency_count
    FROM computed
    UNION ALL
    SELECT
        strategy_id,
        interval,
        time_bucket,
        sum(total_trades)::bigint,
        sum(winning_trades)::bigint,
        sum(losing_trades)::bigint,
        sum(total_pnl),
        sum(gross_profit),
        sum(gross_loss),
        max(largest_win),
        max(largest_loss),
        sum(pnl_square_sum),
        max(pnl_before + highest_pnl),
        min(pnl_before + lowest_pnl),
        max(greatest(max_drawdown, peak_before - pnl_before - lowest_pnl)),
        sum(latency_sum),
        sum(latency_count)::bigint
    FROM with_peaks
    GROUP BY strategy_id, interval, time_bucket
),

-- A strategy has one name, that of its newest start; each of its rows says when that was.
names AS (
    SELECT DISTINCT ON (strategy_id)
        strategy_id,
        strategy_name,
        name_since
    FROM (
        SELECT
            starts.strategy_id,
            starts.strategy_name,
            starts.timestamp AS name_since
        FROM starts
        UNION ALL
        SELECT
            known.strategy_id,
            known.strategy_name,
            known.name_since
        FROM {{ this }} AS known
        WHERE
            known.strategy_id IN (SELECT computed.strategy_id FROM computed)
            AND known.interval = '1d'
            AND known.name_since IS NOT NULL
    ) AS given
    ORDER BY strategy_id ASC, name_since DESC, strategy_name ASC
),

named AS (
    SELECT
        buckets.*,
        names.name_since,
        coalesce(names.strategy_name, buckets.strategy_id) AS strategy_name
    FROM buckets
    LEFT JOIN names USING (strategy_id)
    UNION ALL
    -- rows that only get another name
    SELECT
        known.strategy_id,
        known.interval,
        known.time_bucket,
        known.total_trades,
        known.winning_trades,
        known.losing_trades,
        known.total_pnl,
        known.gross_profit,
        known.gross_loss,
        known.largest_win,
        known.largest_loss,
        known.pnl_square_sum,
        known.highest_pnl,
        known.lowest_pnl,
        known.max_drawdown,
        known.latency_sum,
        known.latency_count,
        names.name_since,
        names.strategy_name
    FROM names
    INNER JOIN {{ this }} AS known USING (strategy_id)
    WHERE
        known.pnl_square_sum IS NOT NULL
        AND known.strategy_name <> names.strategy_name
        AND NOT EXISTS (
            SELECT FROM buckets
            WHERE
                buckets.strategy_id = known.strategy_id
                AND buckets.interval = known.interval
                AND buckets.time_bucket = known.time_bucket
        )
)

SELECT
    time_bucket,
    total_trades,
    winning_trades,
    losing_trades,
    total_pnl,
    gross_profit,
    gross_loss,
    largest_win,
    largest_loss,
    pnl_square_sum,
    highest_pnl,
    lowest_pnl,
    max_drawdown,
    latency_sum,
    latency_count,
    name_since,
    strategy_id::varchar(255) AS strategy_id,
    strategy_name::varchar(255) AS strategy_name,
    interval::varchar(10) AS interval,
    gross_profit / nullif(winning_trades, 0) AS avg_win,
    gross_loss / nullif(losing_trades, 0) AS avg_loss,
    100.0::double precision * winning_trades / nullif(total_trades, 0) AS win_rate,
    gross_profit::double precision / nullif(gross_loss, 0)::double precision AS profit_factor,
    -- the sample's standard deviation from sums that are exact
    total_pnl::double precision / nullif(total_trades, 0)
    / sqrt(
        nullif(total_trades * pnl_square_sum - total_pnl * total_pnl, 0)::double precision
        / nullif(total_trades * (total_trades - 1), 0)
    ) AS sharpe_ratio,
    latency_sum::double precision / nullif(latency_count, 0) AS avg_latency_ms,
    md5(concat_ws('|', interval, extract(EPOCH FROM time_bucket), strategy_id))::uuid AS id,
    now() AS created_at
FROM named
