{{ config(
    unique_key='order_id',
    pre_hook="{{ begin_run() }}",
    post_hook="{{ end_run() }}"
) }}
{{- require_migrated() -}}

-- Each order with an event in a minute that changed is computed anew from all its events, whose minutes its row remembers.
WITH {{ changed_minutes('order_analytics') }},

touched AS (
    SELECT DISTINCT
        changed_minutes.minute,
        {{ order_id('raw') }} AS order_id
    FROM changed_minutes
    INNER JOIN {{ source('analytics', 'events') }} AS raw
        ON
            changed_minutes.minute <= raw.timestamp
            AND changed_minutes.minute + interval '1 minute' > raw.timestamp
            AND raw.event_type IN ({{ order_event_types() }})
    WHERE {{ order_id('raw') }} IS NOT NULL
),

known AS (
    SELECT
        mart.order_id,
        minutes.minute
    FROM {{ this }} AS mart
    CROSS JOIN unnest(mart.event_minutes) AS minutes (minute)
    WHERE mart.order_id IN (SELECT touched.order_id FROM touched)
),

order_minutes AS (
    SELECT
        touched.order_id,
        touched.minute
    FROM touched
    UNION
    SELECT
        known.order_id,
        known.minute
    FROM known
),

-- An order that began before the raw floor is complete only in its row, so it stays as it is.
computable AS (
    SELECT order_minutes.order_id
    FROM order_minutes
    GROUP BY order_minutes.order_id
    HAVING min(order_minutes.minute) >= (SELECT run.oldest FROM run)
),

needed_minutes AS (
    SELECT DISTINCT order_minutes.minute
    FROM order_minutes
    WHERE order_minutes.order_id IN (SELECT computable.order_id FROM computable)
),

order_events AS (
    SELECT
        raw.id AS event_id,
        raw.event_type,
        raw.user_id,
        raw.timestamp,
        raw.created_at,
        {{ order_id('raw') }} AS order_id,
        {{ text_property('raw', 'symbol') }} AS symbol,
        {{ text_property('raw', 'side', 50) }} AS side,
        {{ text_property('raw', 'order_type', 50) }} AS order_type,
        {{ text_property('raw', 'strategy_id') }} AS strategy_id,
        {{ number_property('raw', 'price') }} AS price,
        {{ number_property('raw', 'quantity') }} AS quantity,
        {{ number_property('raw', 'latency_ms') }} AS latency_ms,
        {{ number_property('raw', 'commission') }} AS commission,
        {{ number_property('raw', 'pnl') }} AS pnl,
        {{ boolean_property('raw', 'is_maker') }} AS is_maker
    FROM needed_minutes
    INNER JOIN {{ source('analytics', 'events') }} AS raw
        ON
            needed_minutes.minute <= raw.timestamp
            AND needed_minutes.minute + interval '1 minute' > raw.timestamp
            AND raw.event_type IN ({{ order_event_types() }})
    WHERE {{ order_id('raw') }} IN (SELECT computable.order_id FROM computable)
),

orders AS (
    SELECT
        order_id,
        {{ first_value('user_id') }} AS user_id,
        {{ first_value('symbol') }} AS symbol,
        {{ first_value('side') }} AS side,
        {{ first_value('order_type') }} AS order_type,
        {{ first_value('price') }} AS price,
        {{ first_value('quantity') }} AS quantity,
        {{ first_value('strategy_id') }} AS strategy_id,
        coalesce(sum(quantity) FILTER (WHERE event_type = 'order.filled'), 0) AS filled_quantity,
        max(latency_ms) FILTER (WHERE event_type = 'order.filled') AS latency_ms,
        bool_and(is_maker) FILTER (WHERE event_type = 'order.filled') AS is_maker,
        sum(commission) FILTER (WHERE event_type = 'order.filled') AS commission,
        sum(pnl) FILTER (WHERE event_type = 'order.filled') AS pnl,
        bool_or(event_type = 'order.rejected') AS is_rejected,
        bool_or(event_type = 'order.canceled') AS is_canceled,
        bool_or(event_type = 'order.filled') AS is_filled,
        min(timestamp) AS first_event_at,
        max(created_at) AS landed_at,
        array_agg(DISTINCT date_trunc('minute', timestamp)) AS event_minutes
    FROM order_events
    GROUP BY order_id
)

-- The widths are the table's: dbt would widen the table to a wider model.
SELECT
    filled_quantity,
    price,
    quantity,
    is_maker,
    commission,
    pnl,
    landed_at,
    event_minutes,
    first_event_at AS timestamp,
    order_id::varchar(255) AS order_id,
    user_id::varchar(255) AS user_id,
    symbol::varchar(255) AS symbol,
    side::varchar(50) AS side,
    order_type::varchar(50) AS order_type,
    strategy_id::varchar(255) AS strategy_id,
    latency_ms::double precision AS latency_ms,
    md5(order_id)::uuid AS id,
    now() AS created_at,
    CASE
        WHEN is_rejected THEN 'rejected'
        WHEN is_canceled THEN 'canceled'
        WHEN is_filled AND filled_quantity < quantity THEN 'partially_filled'
        WHEN is_filled THEN 'filled'
        ELSE 'placed'
    END::varchar(50) AS status
FROM orders
