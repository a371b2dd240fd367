"""What every metric has to be, by plain SQL over the raw events: slow, and nothing of the product's own code.

Belongs here: the meaning of each metric, written down a second time, on jsonb, and how far a number may be off.
Does not belong here: making events (`streams`), doing things to them (`machine`).

`oracle.truth` holds every event that was ever stored, also after retention has removed it from `events`.
"""

from datetime import datetime
from typing import Any, NamedTuple

from analytics_pipeline.storage.connection import Connection

CREATE = r"""
CREATE SCHEMA oracle;

CREATE TABLE oracle.truth (
    id uuid NOT NULL,
    event_type text NOT NULL,
    user_id text,
    session_id text,
    properties jsonb,
    timestamp timestamptz NOT NULL,
    is_late boolean NOT NULL,
    PRIMARY KEY (timestamp, id)
);

CREATE TABLE oracle.levels (
    interval text PRIMARY KEY, seconds integer NOT NULL, rows_from timestamptz, register_from timestamptz
);
INSERT INTO oracle.levels VALUES ('1m', 60), ('5m', 300), ('15m', 900), ('1h', 3600), ('1d', 86400);

CREATE FUNCTION oracle.number(properties jsonb, field text) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
SELECT CASE jsonb_typeof(properties -> field) WHEN 'number' THEN (properties ->> field)::numeric END
$$;

CREATE FUNCTION oracle.has(properties jsonb, field text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
SELECT coalesce(jsonb_typeof(properties -> field) <> 'null', false)
$$;

CREATE FUNCTION oracle.label(properties jsonb, field text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE jsonb_typeof(properties -> field)
    WHEN 'string' THEN left(properties ->> field, 255)
    WHEN 'boolean' THEN properties ->> field
    WHEN 'number' THEN CASE
        WHEN abs((properties ->> field)::numeric) > 9007199254740992 THEN NULL
        WHEN (properties ->> field)::numeric % 1 = 0 THEN trunc((properties ->> field)::numeric)::text
        ELSE (properties ->> field)::float8::text
    END
END
$$;

CREATE FUNCTION oracle.rounded(value numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN abs(value) <= 1000000000000000000 THEN round(value, 9) END
$$;

-- One row per event and metric: what it adds to count and sum, the value and the text that it brings along.
CREATE VIEW oracle.measured AS
SELECT
    truth.timestamp, truth.id, truth.event_type,
    said.symbol, said.strategy_id, said.account_id, said.asset, said.severity,
    measure.metric, measure.grouped, measure.counted, measure.added, measure.value, measure.text,
    -- whole numbers made of whole numbers, which a float holds
    measure.value IS NULL OR (
        measure.value % 1 = 0 AND abs(measure.value) <= 9007199254740992
        AND (measure.metric <> 'trading.total_volume' OR said.is_whole)
    ) AS is_exact
FROM oracle.truth
CROSS JOIN LATERAL (
    SELECT
        oracle.label(properties, 'symbol') AS symbol,
        oracle.label(properties, 'strategy_id') AS strategy_id,
        oracle.label(properties, 'account_id') AS account_id,
        oracle.label(properties, 'asset') AS asset,
        oracle.label(properties, 'severity') AS severity,
        oracle.rounded(oracle.number(properties, 'price') * oracle.number(properties, 'quantity')) AS volume,
        oracle.rounded(oracle.number(properties, 'quantity')) AS quantity,
        oracle.rounded(oracle.number(properties, 'latency_ms')) AS latency,
        oracle.rounded(oracle.number(properties, 'pnl')) AS pnl,
        oracle.rounded(oracle.number(properties, 'commission')) AS commission,
        oracle.rounded(oracle.number(properties, 'signal_strength')) AS strength,
        oracle.rounded(oracle.number(properties, 'price')) AS price,
        oracle.rounded(oracle.number(properties, 'volume')) AS traded,
        oracle.rounded(oracle.number(properties, 'ask') - oracle.number(properties, 'bid')) AS spread,
        oracle.rounded(oracle.number(properties, 'balance')) AS balance,
        oracle.number(properties, 'price') % 1 = 0 AND oracle.number(properties, 'quantity') % 1 = 0 AS is_whole
) AS said
CROSS JOIN LATERAL (
    VALUES
    ('events.count', '{"",event_type}'::text [], true, 1, NULL::numeric, NULL::numeric, NULL::text),
    ('trading.orders_placed', '{"",symbol,strategy_id}', event_type = 'order.placed', 1, NULL, NULL, NULL),
    ('trading.orders_filled', '{"",symbol,strategy_id}', event_type = 'order.filled', 1, NULL, NULL, NULL),
    ('trading.orders_canceled', '{"",symbol,strategy_id}', event_type = 'order.canceled', 1, NULL, NULL, NULL),
    ('trading.orders_rejected', '{"",symbol,strategy_id}', event_type = 'order.rejected', 1, NULL, NULL, NULL),
    (
        'trading.total_volume', '{"",symbol,strategy_id}', event_type = 'order.filled' AND volume IS NOT NULL,
        1, volume, volume, NULL
    ),
    (
        'trading.order_latency', '{"",symbol,strategy_id}', event_type = 'order.filled' AND latency IS NOT NULL,
        1, latency, latency, NULL
    ),
    -- the same names as the next release defines them (`edits`)
    (
        'trading.total_volume~edited', '{"",symbol,strategy_id}', event_type = 'order.filled' AND quantity IS NOT NULL,
        1, quantity, quantity, NULL
    ),
    (
        'trading.orders_placed~edited', '{"",symbol,strategy_id}', event_type IN ('order.placed', 'order.canceled'),
        1, NULL, NULL, NULL
    ),
    (
        'trading.order_latency~edited', '{"",symbol,strategy_id}',
        event_type IN ('order.filled', 'order.rejected') AND latency IS NOT NULL, 1, latency, latency, NULL
    ),
    ('users.active~edited', '{""}', session_id IS NOT NULL, 1, NULL, NULL, session_id),
    (
        'trading.order_fill_rate', '{"",symbol,strategy_id}', event_type IN ('order.placed', 'order.filled'),
        (event_type = 'order.placed')::integer, 100 * (event_type = 'order.filled')::integer, NULL, NULL
    ),
    (
        'trading.error_rate', '{"",symbol,strategy_id}', event_type IN ('order.placed', 'order.rejected'),
        (event_type = 'order.placed')::integer, 100 * (event_type = 'order.rejected')::integer, NULL, NULL
    ),
    (
        'trading.realized_pnl', '{"",symbol,strategy_id}', event_type = 'order.filled' AND pnl IS NOT NULL,
        1, pnl, pnl, NULL
    ),
    (
        'trading.commission', '{"",symbol,strategy_id}', event_type = 'order.filled' AND commission IS NOT NULL,
        1, commission, commission, NULL
    ),
    ('trading.positions_opened', '{"",symbol,strategy_id}', event_type = 'position.opened', 1, NULL, NULL, NULL),
    ('trading.positions_closed', '{"",symbol,strategy_id}', event_type = 'position.closed', 1, NULL, NULL, NULL),
    ('strategies.signals', '{"",symbol,strategy_id}', event_type = 'signal.generated', 1, NULL, NULL, NULL),
    (
        'strategies.signal_strength', '{"",symbol,strategy_id}',
        event_type = 'signal.generated' AND strength IS NOT NULL, 1, strength, strength, NULL
    ),
    (
        'market.price', '{symbol}', event_type = 'market.data.update' AND price IS NOT NULL,
        1, price, price, NULL
    ),
    (
        'market.volume', '{symbol}', event_type = 'market.data.update' AND traded IS NOT NULL,
        1, traded, traded, NULL
    ),
    (
        'market.spread', '{symbol}', event_type = 'market.data.update' AND spread IS NOT NULL,
        1, spread, spread, NULL
    ),
    (
        'accounts.balance', '{"account_id,asset"}', event_type = 'balance.updated' AND balance IS NOT NULL,
        1, balance, balance, NULL
    ),
    ('alerts.triggered', '{"",severity}', event_type = 'alert.triggered', 1, NULL, NULL, NULL),
    -- something stands where the value belongs, and is none
    (
        'trading.total_volume~edited', '{_skipped}',
        event_type = 'order.filled' AND oracle.has(properties, 'quantity') AND quantity IS NULL, 1, NULL, NULL, NULL
    ),
    (
        'trading.order_latency~edited', '{_skipped}',
        event_type IN ('order.filled', 'order.rejected') AND oracle.has(properties, 'latency_ms') AND latency IS NULL,
        1, NULL, NULL, NULL
    ),
    (
        'trading.total_volume', '{_skipped}',
        event_type = 'order.filled' AND oracle.has(properties, 'price') AND oracle.has(properties, 'quantity')
        AND volume IS NULL, 1, NULL, NULL, NULL
    ),
    (
        'market.spread', '{_skipped}',
        event_type = 'market.data.update' AND oracle.has(properties, 'ask') AND oracle.has(properties, 'bid')
        AND spread IS NULL, 1, NULL, NULL, NULL
    ),
    (
        'trading.order_latency', '{_skipped}',
        event_type = 'order.filled' AND oracle.has(properties, 'latency_ms') AND latency IS NULL, 1, NULL, NULL, NULL
    ),
    (
        'trading.realized_pnl', '{_skipped}',
        event_type = 'order.filled' AND oracle.has(properties, 'pnl') AND pnl IS NULL, 1, NULL, NULL, NULL
    ),
    (
        'trading.commission', '{_skipped}',
        event_type = 'order.filled' AND oracle.has(properties, 'commission') AND commission IS NULL, 1, NULL, NULL, NULL
    ),
    (
        'strategies.signal_strength', '{_skipped}',
        event_type = 'signal.generated' AND oracle.has(properties, 'signal_strength') AND strength IS NULL,
        1, NULL, NULL, NULL
    ),
    (
        'market.price', '{_skipped}',
        event_type = 'market.data.update' AND oracle.has(properties, 'price') AND price IS NULL, 1, NULL, NULL, NULL
    ),
    (
        'market.volume', '{_skipped}',
        event_type = 'market.data.update' AND oracle.has(properties, 'volume') AND traded IS NULL, 1, NULL, NULL, NULL
    ),
    (
        'accounts.balance', '{_skipped}',
        event_type = 'balance.updated' AND oracle.has(properties, 'balance') AND balance IS NULL, 1, NULL, NULL, NULL
    ),
    ('users.active', '{""}', user_id IS NOT NULL, 1, NULL, NULL, user_id),
    ('sessions.active', '{""}', session_id IS NOT NULL, 1, NULL, NULL, session_id),
    ('strategies.active', '{""}', said.strategy_id IS NOT NULL, 1, NULL, NULL, said.strategy_id)
) AS measure (metric, grouped, applies, counted, added, value, text)
WHERE measure.applies;

-- What is said above; of other metrics it is only compared that they are the same however they are computed.
CREATE FUNCTION oracle.is_known(metric_name text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
SELECT metric_name ~ (
    '^(events\.count($|\.)|(users|sessions|strategies)\.active$'
    || '|trading\.(orders_[a-z]+|total_volume|order_latency|order_fill_rate|error_rate)$'
    || '|trading\.(realized_pnl|commission|positions_[a-z]+)$|strategies\.signal'
    || '|market\.(price|volume|spread)$|accounts\.balance$|alerts\.triggered$)'
)
$$;

-- What the events say, whatever definition answers, and whatever is still kept.
CREATE UNLOGGED TABLE oracle.said (
    metric_name text, interval text, time_bucket timestamptz, dimension_set text, dimensions jsonb,
    count bigint, sum numeric, is_exact boolean, sum_off numeric, min numeric, max numeric,
    p50 numeric, p95 numeric, p99 numeric, distinct_count bigint, largest numeric, first numeric, last numeric
);
-- With it, of edited metrics (`edits`): the definition that answers, and its marks.
CREATE UNLOGGED TABLE oracle.expected (
    LIKE oracle.said, metric_id text, is_incomplete boolean DEFAULT false, is_predecessor boolean DEFAULT false
);
CREATE UNLOGGED TABLE oracle.register (
    interval text, time_bucket timestamptz, events bigint, late bigint
);
"""

_KEEP = """
INSERT INTO oracle.truth
SELECT id, event_type, user_id, session_id, properties, timestamp, is_late FROM events
ON CONFLICT DO NOTHING
RETURNING event_type, date_trunc('hour', timestamp, 'UTC')
"""
KEPT_FROM = """
UPDATE oracle.levels SET
    rows_from = (
        SELECT min(lower_bound) FROM time_partitions
        WHERE parent = 'metric_aggregations_1m' AND upper_bound > %(first)s AND NOT is_detaching
    ),
    register_from = (
        SELECT min(lower_bound) FROM time_partitions
        WHERE parent = 'metric_buckets_1m' AND upper_bound > %(first)s AND NOT is_detaching
    )
WHERE interval = '1m'
"""
_LOST = """
SELECT count(*) FROM oracle.truth LEFT JOIN events USING (timestamp, id)
WHERE events.event_type IS NULL AND timestamp >= (SELECT raw_floor FROM retention_state)
"""
# A value is off by its rounding, half of 1e-9, and by that of a product of two floats; integers are exact.
_SAY = """
TRUNCATE oracle.said, oracle.register;
INSERT INTO oracle.said
SELECT
    CASE WHEN metric = 'events.count' AND dimension_set <> '' THEN metric || '.' || event_type ELSE metric END,
    interval, time_bucket, dimension_set, dimensions, count, sum, is_exact,
    CASE WHEN is_exact THEN 0 ELSE 1e-9 * abs(sum) + 1e-9 * count + 4e-16 * magnitude END,
    min, max,
    ordered[floor(0.5 * (count - 1)) + 1], ordered[floor(0.95 * (count - 1)) + 1],
    ordered[floor(0.99 * (count - 1)) + 1], nullif(texts, 0), largest,
    in_order[1], in_order[count]
FROM (
    SELECT
        metric, interval, to_timestamp(floor(extract(EPOCH FROM timestamp) / seconds) * seconds) AS time_bucket,
        dimension_set, dimensions, min(event_type) AS event_type,
        sum(counted) AS count, sum(added) AS sum, min(value), max(value),
        bool_and(is_exact) AS is_exact,
        sum(abs(added)) AS magnitude, max(abs(value)) AS largest,
        array_agg(value ORDER BY value) FILTER (WHERE starts_with(metric, 'trading.order_latency')) AS ordered,
        array_agg(value ORDER BY timestamp, id)
            FILTER (WHERE metric IN ('market.price', 'accounts.balance')) AS in_order,
        count(DISTINCT text) AS texts
    FROM oracle.measured
    CROSS JOIN LATERAL (
        VALUES
        ('', '{}'::jsonb),
        ('event_type', jsonb_build_object('event_type', event_type)),
        ('symbol', jsonb_build_object('symbol', symbol)),
        ('strategy_id', jsonb_build_object('strategy_id', strategy_id)),
        ('account_id,asset', jsonb_build_object('account_id', account_id, 'asset', asset)),
        ('severity', jsonb_build_object('severity', severity)),
        ('_skipped', '{}')
    ) AS groups (dimension_set, dimensions)
    CROSS JOIN oracle.levels
    WHERE dimension_set = ANY(grouped)
    GROUP BY 1, 2, 3, 4, 5
) AS computed;
INSERT INTO oracle.register
SELECT
    interval, to_timestamp(floor(extract(EPOCH FROM timestamp) / seconds) * seconds) AS time_bucket,
    count(*), count(*) FILTER (WHERE is_late)
FROM oracle.truth CROSS JOIN oracle.levels
GROUP BY 1, 2;
"""
_EXPECT = """
TRUNCATE oracle.expected;
INSERT INTO oracle.expected SELECT said.* FROM oracle.said INNER JOIN oracle.levels USING (interval)
WHERE rows_from IS NULL OR time_bucket >= rows_from;
DELETE FROM oracle.register USING oracle.levels
WHERE register.interval = levels.interval AND time_bucket < register_from;
"""
_COLUMNS = "metric_name, interval, time_bucket, dimension_set, dimensions"
_LIVE = f"""
SELECT {_COLUMNS}, expected.count, live.count, expected.sum, live.sum, expected.min, live.min, expected.max, live.max,
    expected.first, live.first, expected.last, live.last
FROM oracle.expected
FULL JOIN (SELECT * FROM metrics_live WHERE oracle.is_known(metric_name)) AS live USING ({_COLUMNS})
WHERE expected.is_incomplete AND (live.count > expected.count OR live.metric_id <> expected.metric_id)
    OR expected.is_incomplete IS NOT TRUE AND (expected.count IS DISTINCT FROM live.count
    OR live.metric_id <> expected.metric_id
    OR (expected.sum IS NULL) <> (live.sum IS NULL)
    OR abs(expected.sum::float8 - live.sum) > expected.sum_off
    OR abs(expected.sum::float8 / nullif(expected.count, 0) - live.avg) > 1e-9 * abs(live.avg) + expected.sum_off
    OR (expected.min IS NULL) <> (live.min IS NULL) OR (expected.max IS NULL) <> (live.max IS NULL)
    OR abs(expected.min::float8 - live.min) > CASE WHEN is_exact THEN 0 ELSE 1e-9 + 1e-9 * abs(live.min) END
    OR abs(expected.max::float8 - live.max) > CASE WHEN is_exact THEN 0 ELSE 1e-9 + 1e-9 * abs(live.max) END
    OR (expected.first IS NULL) <> (live.first IS NULL) OR (expected.last IS NULL) <> (live.last IS NULL)
    OR abs(expected.first::float8 - live.first) > CASE WHEN is_exact THEN 0 ELSE 1e-9 + 1e-9 * abs(live.first) END
    OR abs(expected.last::float8 - live.last) > CASE WHEN is_exact THEN 0 ELSE 1e-9 + 1e-9 * abs(live.last) END)
"""
_REGISTER = """
WITH live AS (
    SELECT interval, time_bucket, sum(events)::bigint AS events, sum(late)::bigint AS late
    FROM (
        SELECT interval, time_bucket, event_count AS events, late_count AS late FROM metric_buckets
        UNION ALL
        SELECT interval, to_timestamp(floor(extract(EPOCH FROM minute) / seconds) * seconds), count, sum
        FROM rollup_deltas CROSS JOIN oracle.levels WHERE kind = 'register'
    ) AS both_halves
    GROUP BY 1, 2
)
SELECT interval, time_bucket, register.events, live.events, register.late, live.late
FROM oracle.register FULL JOIN live USING (interval, time_bucket)
WHERE (register.events, register.late) IS DISTINCT FROM (live.events, live.late)
"""
# The numbers that a settled row derives from its state, where nothing is pending. A quantile holds for magnitudes down
# to the largest ÷ 7.7e8; smaller ones share a bin.
_DERIVED = f"""
WITH pending AS (
    SELECT DISTINCT interval, to_timestamp(floor(extract(EPOCH FROM minute) / seconds) * seconds) AS time_bucket
    FROM rollup_deltas CROSS JOIN oracle.levels
)
SELECT {_COLUMNS}, quantile.expected, quantile.found, expected.distinct_count, settled.distinct_count
FROM oracle.expected INNER JOIN metric_aggregations AS settled USING ({_COLUMNS})
CROSS JOIN LATERAL (
    VALUES (expected.p50, settled.p50), (expected.p95, settled.p95), (expected.p99, settled.p99)
) AS quantile (expected, found)
WHERE (settled.interval, settled.time_bucket) NOT IN (SELECT interval, time_bucket FROM pending)
    AND NOT expected.is_incomplete AND settled.metric_id = coalesce(expected.metric_id, settled.metric_id)
    AND (
        expected.distinct_count IS DISTINCT FROM settled.distinct_count
        OR (quantile.expected IS NULL) <> (quantile.found IS NULL)
        OR abs(quantile.expected::float8 - quantile.found)
            > CASE
                WHEN abs(quantile.expected) * 7.7e8 < largest THEN largest / 7.6e8
                ELSE 0.0050001 * abs(quantile.expected)
            END
    )
"""
# Answers read the sum of a row that stands alone as it is, without its decimals.
_ROUNDED = """
SELECT metric_name, interval, time_bucket, dimensions, sum_exact, sum
FROM metric_aggregations
WHERE sum_exact IS NOT NULL AND sum IS DISTINCT FROM sum_exact::double precision
"""


class Mistake(NamedTuple):
    """A number that is not what it has to be: what was compared, and the row that says it."""

    what: str
    row: tuple[Any, ...]


def keep_truth(connection: Connection) -> list[tuple[str, datetime]]:
    """Remember what is stored by now; types and hours of the events that are new."""
    return connection.execute(_KEEP).fetchall()


def say(connection: Connection) -> None:
    """Compute what the events say: needed when there are new ones."""
    connection.execute(_SAY)


def expect(connection: Connection) -> None:
    """Let every number that is still kept be expected, as it was said last."""
    connection.execute(_EXPECT)


def mistakes(connection: Connection) -> list[Mistake]:
    """Compare what is served, and what is settled, with what `expect` computed."""
    found = []
    [(lost,)] = connection.execute(_LOST).fetchall()
    if lost:
        found.append(Mistake("stored events above the floor that are gone", (lost,)))
    for what, query in (
        ("metrics_live: expected and found count, sum, min, max, first, last", _LIVE),
        ("register: expected and found events, late events", _REGISTER),
        ("settled: expected and found quantile, distinct count", _DERIVED),
        ("settled: the sum is not the nearest double of its decimals", _ROUNDED),
    ):
        found += [Mistake(what, row) for row in connection.execute(query).fetchmany(5)]
    return found
