"""Lands events the short way: the rows, deltas and ledger that a landing writes, in one transaction, without Kafka."""

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from analytics_pipeline.events.schema import EVENTS_SCHEMA
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.storage.connection import Connection, Lock


@dataclass
class Event:
    event_type: str
    timestamp: datetime
    properties: dict[str, Any] = field(default_factory=dict)
    user_id: str | None = None
    session_id: str | None = None
    id: uuid.UUID = field(default_factory=uuid.uuid4)


def land(connection: Connection, events: Iterable[Event], *, source: str = "orders") -> int:
    """Returns the batch's id; the caller's connection is in autocommit."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock_shared(%s, 0)", (Lock.FLOOR,))
        return _write(connection, list(events), source)


def _write(connection: Connection, events: list[Event], source: str) -> int:
    [batch_id] = connection.execute("SELECT nextval('ingest_batch_id_seq')").fetchone()
    [offset] = connection.execute(
        "SELECT coalesce(max(next_offset), 0) FROM ingest_batches WHERE source = %s", (source,)
    ).fetchone()
    rows = [
        {
            "id": event.id.bytes,
            "event_type": event.event_type,
            "user_id": event.user_id,
            "session_id": event.session_id,
            "properties": json.dumps(event.properties),
            "timestamp": event.timestamp,
            "is_late": False,
            "source": source,
            "source_partition": 0,
            "source_offset": offset + number,
            "definition_version": None,
        }
        for number, event in enumerate(events)
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO events (id, event_type, user_id, session_id, properties, timestamp, source, source_partition,"
            " source_offset) VALUES (%s, %s, %s, %s, %s, %s, %s, 0, %s)",
            [
                (
                    e.id,
                    e.event_type,
                    e.user_id,
                    e.session_id,
                    json.dumps(e.properties),
                    e.timestamp,
                    source,
                    offset + n,
                )
                for n, e in enumerate(events)
            ],
        )
        deltas = compute_deltas(pa.Table.from_pylist(rows, EVENTS_SCHEMA), BUILT_IN)
        names = deltas.column_names
        with cursor.copy(f"COPY rollup_deltas ({', '.join(names)}, batch_id) FROM STDIN") as copy:
            for row in deltas.to_pylist():
                copy.write_row((*row.values(), batch_id))
    hours = sorted(
        {event.timestamp.astimezone(UTC).replace(minute=0, second=0, microsecond=0) for event in events}
    )
    for hour in hours:
        connection.execute("INSERT INTO pending_batches (hour, batch_id) VALUES (%s, %s)", (hour, batch_id))
    connection.execute(
        "INSERT INTO ingest_batches (batch_id, source, partition, first_offset, next_offset, read, stored, duplicate,"
        " dead, catalog_version, hours) VALUES (%s, %s, 0, %s, %s, %s, %s, 0, 0, %s, %s)",
        (batch_id, source, offset, offset + len(events), len(events), len(events), BUILT_IN.version, hours),
    )
    connection.execute(
        "INSERT INTO ingest_offsets (source, partition, next_offset, epoch, caught_up_at) VALUES (%s, 0, %s, 1, now())"
        " ON CONFLICT (source, partition) DO UPDATE SET next_offset = excluded.next_offset, caught_up_at = now()",
        (source, offset + len(events)),
    )
    return int(batch_id)


def order(
    order_id: str, at: datetime, *, filled_after: timedelta | None = timedelta(seconds=1)
) -> list[Event]:
    """An order placed at a time and, unless told otherwise, filled a second later."""
    common = {
        "order_id": order_id,
        "symbol": "BTCUSDT",
        "side": "BUY",
        "order_type": "LIMIT",
        "strategy_id": "s1",
    }
    placed = Event("order.placed", at, {**common, "price": 100.5, "quantity": 2}, user_id="u1")
    if filled_after is None:
        return [placed]
    fill = {"price": 100.25, "quantity": 2, "latency_ms": 12.5, "commission": 0.1, "is_maker": True, "pnl": 3}
    return [placed, Event("order.filled", at + filled_after, {**common, **fill}, user_id="u1")]
