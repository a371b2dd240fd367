"""The ceiling: how fast Postgres takes the same rows when nothing else has to be done.

Each connection copies batches that were encoded before time starts, in transactions of the kind that landing makes:
COPY events, COPY rollup_deltas, INSERT pending_batches, COMMIT. No Kafka, decoding, ledger or offsets.
"""

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.schema import EVENTS_SCHEMA
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA
from analytics_pipeline.storage.connection import connect
from analytics_pipeline.storage.copying import Copier
from benchmarks.workload import PARTITIONS, Workload

_EVENTS = Copier("events", EVENTS_SCHEMA, jsonb=frozenset({"properties"}))
_BATCH_ID = pa.field("batch_id", pa.int64())
_DELTAS = Copier("rollup_deltas", DELTAS_SCHEMA.append(_BATCH_ID), jsonb=frozenset({"dimensions"}))
_PENDING = (
    "INSERT INTO pending_batches (hour, batch_id) SELECT hour, %s FROM unnest(%s::timestamptz []) AS t (hour)"
)


class Encoded(NamedTuple):
    """One transaction, ready to be sent."""

    batch_id: int
    events: bytes
    rows: int
    deltas: bytes
    delta_rows: int
    hours: list[datetime]


def prepare(work: Workload, *, connections: int, batch_size: int) -> list[list[Encoded]]:
    """The transactions of each connection, cut as landing cuts them."""
    made: list[list[Encoded]] = []
    now, limits, batch_id = datetime.now(UTC), Limits(), 0
    for first in range(connections):
        encoded = []
        for batch in work.batches(batch_size, range(first, PARTITIONS, connections)):
            batch_id += 1
            events = decode_batches(batch, now=now, limits=limits).events
            deltas = compute_deltas(events, BUILT_IN)
            hours = sorted(pc.unique(deltas["hour"]).to_pylist())
            numbered = deltas.append_column(_BATCH_ID, pa.array([batch_id] * deltas.num_rows, pa.int64()))
            encoded.append(
                Encoded(
                    batch_id,
                    _EVENTS.encode(events),
                    events.num_rows,
                    _DELTAS.encode(numbered),
                    deltas.num_rows,
                    hours,
                )
            )
        made.append(encoded)
    return made


def run(conninfo: str, prepared: Sequence[Sequence[Encoded]]) -> tuple[float, float]:
    """Copy everything; when it began and when the last COMMIT had returned, by the wall clock.

    Raises:
        psycopg.Error: of the first connection that failed.
    """
    opened = [connect(conninfo, name=f"ceiling-{number}") for number in range(len(prepared))]
    start = threading.Barrier(len(prepared) + 1)
    failures: list[BaseException] = []

    def copy_all(connection: psycopg.Connection[Any], batches: Sequence[Encoded]) -> None:
        start.wait()
        try:
            for batch in batches:
                _copy(connection, batch)
        except (psycopg.Error, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=copy_all, args=pair) for pair in zip(opened, prepared, strict=True)]
    try:
        for thread in threads:
            thread.start()
        began = time.time()
        start.wait()
        for thread in threads:
            thread.join()
        ended = time.time()
    finally:
        for connection in opened:
            connection.close()
    if failures:
        raise failures[0]
    return began, ended


def _copy(connection: psycopg.Connection[Any], batch: Encoded) -> None:
    with connection.cursor() as cursor:
        _EVENTS.send(cursor, batch.events, batch.rows)
        cursor.execute(_PENDING, (batch.batch_id, batch.hours))
        _DELTAS.send(cursor, batch.deltas, batch.delta_rows)
    connection.commit()
