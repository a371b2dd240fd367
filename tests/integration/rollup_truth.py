"""What rollups must say, by plain SQL over the raw events, and what they do say: settled plus pending, at every level.

`remember` keeps a copy of every event that lands, in its transaction, so that the truth outlives retention.
"""

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups import levels, states
from analytics_pipeline.rollups.compare import compare_rows
from analytics_pipeline.storage import rollups
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.recompute import recompute_hour, settled_rows
from tests.waiting import wait_for

_LEVELS = (
    "(VALUES ('1m', 60), ('5m', 300), ('15m', 900), ('1h', 3600), ('1d', 86400)) AS level (name, seconds)"
)
_BUCKET = "to_timestamp(floor(extract(EPOCH FROM {}) / level.seconds) * level.seconds)"

_REMEMBER = """
CREATE TABLE landed (LIKE events);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO landed VALUES (NEW.*);
    RETURN NULL;
END
$$;
CREATE TRIGGER remember AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION remember();
"""
_TRUTH = f"""
SELECT level.name, {_BUCKET.format("timestamp")}, metric, dimensions::text, count(*), sum(value), min(value), max(value)
FROM landed
CROSS JOIN LATERAL (VALUES
    ('events.count', '{{}}'::jsonb, NULL::numeric, true),
    ('events.count.' || event_type, jsonb_build_object('event_type', event_type), NULL, true),
    ('trading.orders_placed', '{{}}', NULL, event_type = 'order.placed'),
    (
        'trading.total_volume', '{{}}',
        (properties ->> 'price')::numeric * (properties ->> 'quantity')::numeric, event_type = 'order.filled'
    ),
    (
        'trading.total_volume', jsonb_build_object('symbol', properties ->> 'symbol'),
        (properties ->> 'price')::numeric * (properties ->> 'quantity')::numeric, event_type = 'order.filled'
    ),
    ('trading.order_latency', '{{}}', (properties ->> 'latency_ms')::numeric, event_type = 'order.filled')
) AS series (metric, dimensions, value, applies)
CROSS JOIN {_LEVELS}
WHERE applies
GROUP BY 1, 2, 3, 4
"""
_SERVED = f"""
SELECT interval, time_bucket, metric_name, dimensions::text, sum(count)::bigint, sum(sum), min(min), max(max)
FROM (
    SELECT interval, time_bucket, metric_name, dimension_set, dimensions, count, sum_exact AS sum, min, max
    FROM metric_aggregations
    UNION ALL
    SELECT level.name, {_BUCKET.format("minute")}, metric_name, dimension_set, dimensions, count, sum, min, max
    FROM rollup_deltas CROSS JOIN {_LEVELS} WHERE kind <> 'register'
) AS both_halves
WHERE dimension_set IN ('', 'event_type') AND (
        metric_name LIKE 'events.count%%'
        OR metric_name IN ('trading.orders_placed', 'trading.total_volume', 'trading.order_latency')
    ) OR metric_name = 'trading.total_volume' AND dimension_set = 'symbol'
GROUP BY 1, 2, 3, 4
"""
_TRUE_DISTINCT = f"""
SELECT level.name, {_BUCKET.format("timestamp")}, count(DISTINCT user_id)
FROM landed CROSS JOIN {_LEVELS} WHERE user_id IS NOT NULL GROUP BY 1, 2
"""
_DISTINCT_STATES = f"""
SELECT interval, time_bucket, state FROM metric_states
WHERE dimension_set = '' AND metric_id IN (
    SELECT metric_id FROM metric_aggregations WHERE metric_name = 'users.active'
    UNION SELECT metric_id FROM rollup_deltas WHERE metric_name = 'users.active'
)
UNION ALL
SELECT level.name, {_BUCKET.format("minute")}, state
FROM rollup_deltas CROSS JOIN {_LEVELS} WHERE metric_name = 'users.active' AND dimension_set = ''
"""
_TRUE_REGISTER = f"""
SELECT
    level.name, {_BUCKET.format("timestamp")}, is_late::integer,
    uuid_send(id), (extract(EPOCH FROM timestamp) * 1000000)::bigint
FROM landed CROSS JOIN {_LEVELS}
"""
_REGISTER = f"""
SELECT interval, time_bucket, event_count, late_count, set_hash, NULL::bytea FROM metric_buckets WHERE event_count <> 0
UNION ALL
SELECT level.name, {_BUCKET.format("minute")}, count, coalesce(sum, 0)::bigint, 0, state
FROM rollup_deltas CROSS JOIN {_LEVELS} WHERE kind = 'register'
"""
_UNPAIRED = """
SELECT * FROM (SELECT DISTINCT hour, batch_id FROM rollup_deltas) AS deltas
FULL JOIN (SELECT hour, batch_id, true AS is_known FROM pending_batches) AS pending USING (hour, batch_id)
WHERE is_known IS NULL OR NOT EXISTS (
    SELECT FROM rollup_deltas AS found WHERE (found.hour, found.batch_id) = (deltas.hour, deltas.batch_id)
)
"""
_OPEN = """
SELECT application_name, state, wait_event_type, query FROM pg_stat_activity AS activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND (
    state <> 'idle' OR EXISTS (SELECT FROM pg_locks WHERE pg_locks.pid = activity.pid AND locktype = 'advisory')
)
"""


def remember(connection: Connection) -> None:
    """Keep a copy of what lands from now on."""
    connection.execute(_REMEMBER)


def check_truth(connection: Connection) -> None:
    """Every level, settled plus pending, says what the raw events say; and every delta has its batch.

    Reads in one snapshot, so it may be called while others write.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        truth, served = _numbers(connection, _TRUTH), _numbers(connection, _SERVED)
        assert served == truth, _first_difference(served, truth)
        distinct = {(level, at): users for level, at, users in connection.execute(_TRUE_DISTINCT)}
        found = _distinct(connection)
        assert found == distinct, _first_difference(found, distinct)
        register, expected = _register(connection), _true_register(connection)
        assert register == expected, _first_difference(register, expected)
        unpaired = connection.execute(_UNPAIRED).fetchall()
        assert unpaired == [], f"batches and deltas that do not belong together: {unpaired}"


def check_settled(connection: Connection, conninfo: str) -> None:
    """Merge what is pending: the same numbers, nothing left, and a recompute finds the same states, byte for byte."""
    for pending in rollups.pending_hours(connection):
        merged = rollups.merge_hour(connection, pending.hour, run_id="last")
        assert merged is not None, f"the hour {pending.hour} is still locked"
    check_truth(connection)
    [(left,)] = connection.execute(
        "SELECT (SELECT count(*) FROM rollup_deltas) + (SELECT count(*) FROM pending_batches)"
    )
    assert left == 0
    ids = [row[0] for row in connection.execute("SELECT DISTINCT metric_id FROM metric_aggregations")]
    for (day,) in connection.execute(
        "SELECT time_bucket FROM metric_buckets WHERE interval = '1d'"
    ).fetchall():
        end = day + timedelta(days=1)
        hours = levels.roll_up(settled_rows(connection, "1h", day, end, ids), "1d")
        assert compare_rows(settled_rows(connection, "1d", day, end, ids), hours, "1d") == []
    for hour in _hours(connection):
        with contextlib.suppress(ConfigurationError):  # its raw events are going or gone
            assert recompute_hour(conninfo, hour, run_id="last", write=False).differences == []


def check_idle(connection: Connection) -> None:
    """No transaction is open, nobody waits, no advisory lock is held. Postgres may need a moment to see a death."""

    def is_idle() -> bool:
        return connection.execute(_OPEN).fetchall() == []

    wait_for(is_idle, 10, "all have ended")


def _hours(connection: Connection) -> Iterator[datetime]:
    yield from (
        row[0]
        for row in connection.execute(
            "SELECT time_bucket FROM metric_buckets WHERE interval = '1h'"
        ).fetchall()
    )


def _numbers(connection: Connection, query: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """By level, bucket, metric and dimensions: count, sum, min, max; the last three only where there are values."""
    found = {}
    for *series, count, total, smallest, largest in connection.execute(query.replace("%%", "%")):
        if total is None or smallest is None:
            found[tuple(series)] = (count,)
        else:
            found[tuple(series)] = (count, round(total, 9), float(smallest), float(largest))
    return found


def _distinct(connection: Connection) -> dict[tuple[Any, ...], int]:
    found: dict[tuple[Any, ...], list[bytes]] = {}
    for level, at, state in connection.execute(_DISTINCT_STATES):
        found.setdefault((level, at), []).append(state)
    return {key: states.distinct_count(states.distinct_merge(parts)) for key, parts in found.items()}


def _register(connection: Connection) -> dict[tuple[Any, ...], tuple[int, int, int]]:
    found: dict[tuple[Any, ...], tuple[int, int, int]] = {}
    for level, at, events, late, set_hash, state in connection.execute(_REGISTER):
        before = found.get((level, at), (0, 0, 0))
        hashed = int(set_hash) if state is None else states.register_value(state)
        found[level, at] = before[0] + events, before[1] + late, (before[2] + hashed) % states.MODULUS
    return found


def _true_register(connection: Connection) -> dict[tuple[Any, ...], tuple[int, int, int]]:
    found: dict[tuple[Any, ...], tuple[int, int, int]] = {}
    rows = connection.execute(_TRUE_REGISTER).fetchall()
    halves = np.frombuffer(b"".join(row[3] for row in rows), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    high, low = states.event_hashes(halves, np.array([row[4] for row in rows], dtype=np.int64))
    for (level, at, late, _, _), upper, lower in zip(rows, high.tolist(), low.tolist(), strict=True):
        before = found.get((level, at), (0, 0, 0))
        set_hash = (before[2] + (upper << 64) + lower) % states.MODULUS
        found[level, at] = before[0] + 1, before[1] + late, set_hash
    return found


def _first_difference(found: dict[Any, Any], expected: dict[Any, Any]) -> str:
    differing = sorted(
        (str(key), found.get(key), expected.get(key))
        for key in found.keys() | expected.keys()
        if found.get(key) != expected.get(key)
    )
    return f"{len(differing)} differ; the first: (which, served, true) = {differing[:3]}"
