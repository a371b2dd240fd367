"""Raw events in Postgres as landing stores them, 10,000 a second from the start of an hour: what a recompute reads.

Belongs here: making and storing them. Does not belong here: what is measured.

The first minute is the simulator's own, decoded by the product. Each further one is that one again, with other ids and
later times, made by Postgres: the simulator would take a quarter of an hour for 36 million events.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg
import pyarrow as pa

from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.events.schema import EVENTS_SCHEMA
from analytics_pipeline.simulator.envelope import SECOND
from analytics_pipeline.simulator.faults import Ratios
from analytics_pipeline.simulator.history import past_slots
from analytics_pipeline.simulator.stream import Stream
from analytics_pipeline.storage.copying import Copier
from benchmarks.workload import TOPIC

PER_SECOND = 10_000
_PER_MINUTE = 60 * PER_SECOND
_CHUNK = 50_000
_EVENTS = Copier("events", EVENTS_SCHEMA, jsonb=frozenset({"properties"}))
_REPEAT = """
INSERT INTO events (id, event_type, user_id, session_id, properties, timestamp, source, source_partition, source_offset)
SELECT
    md5(id::text || %(number)s)::uuid, event_type, user_id, session_id, properties,
    timestamp + %(number)s * interval '1 minute', source, source_partition, source_offset + %(number)s * 10000000
FROM events WHERE timestamp >= %(start)s AND timestamp < %(end)s AND source_offset < %(rows)s
"""


def simulated(start: datetime, count: int, rate: float, *, seed: int) -> pa.Table:
    """`count` events of the simulator as `EVENTS_SCHEMA`, `rate` of them a second from `start` on."""
    first = _micros(start)
    return _stream(first, [first + int(number * SECOND / rate) for number in range(count)], rate, seed)


def simulated_day(start: datetime, hours: int, rate: float, *, seed: int) -> pa.Table:
    """Some hours of the simulator's history: busy and quiet hours as in production, `rate` a second on average."""
    first, last = _micros(start), _micros(start + timedelta(hours=hours))
    return _stream(first, past_slots(first, last, int(hours * 3600 * rate)), rate, seed)


def _micros(at: datetime) -> int:
    return int(at.timestamp()) * SECOND


def _stream(first: int, slots: Sequence[int], rate: float, seed: int) -> pa.Table:
    stream = Stream(seed=seed, start=first, rate=rate, ratios=Ratios())
    tables = []
    for begin in range(0, len(slots), _CHUNK):
        messages = [
            PlainMessage(stream.message(slot).value, begin + number, slot // 1000)
            for number, slot in enumerate(slots[begin : begin + _CHUNK])
        ]
        decoded = decode_batches([RawBatch(TOPIC, 0, messages)], now=datetime.now(UTC), limits=Limits())
        tables.append(decoded.events)
    return pa.concat_tables(tables)


def copy_events(connection: psycopg.Connection, events: pa.Table) -> None:
    """Store a table of `EVENTS_SCHEMA`; the caller commits."""
    with connection.cursor() as cursor:
        _EVENTS.copy(cursor, events)


def fill(conninfo: str, hour: datetime, count: int, *, seed: int, already: int = 0) -> None:
    """Store the first `count` events of an hour at 10,000 events/s, and vacuum, as autovacuum would have by then.

    Args:
        already: how many of them are there from the call before: 0, or whole minutes.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        if not already:
            first = simulated(hour, min(count, _PER_MINUTE), PER_SECOND, seed=seed)
            for begin in range(0, first.num_rows, _CHUNK):
                copy_events(connection, first.slice(begin, _CHUNK))
        span = {"start": hour, "end": hour + timedelta(minutes=1)}
        for number in range(max(1, already // _PER_MINUTE), -(-count // _PER_MINUTE)):
            rows = min(_PER_MINUTE, count - number * _PER_MINUTE)
            connection.execute(_REPEAT, {"number": number, "rows": rows, **span})
        connection.execute("VACUUM ANALYZE events")
