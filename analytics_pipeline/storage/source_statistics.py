"""Source statistics in Postgres: appended by landings, folded into hours, read by people.

Belongs here: the statements, and how two rows of one producer become one.
Does not belong here: what a batch says (`events.source_statistics`).

A landing appends rows of its own and never updates: an upsert would make landings of one topic wait for each other's
COMMIT. Folding is alone (an advisory lock) and only touches rows that are committed, so nobody waits for it either.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
from psycopg.types.json import Jsonb

from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.events.messages import DeadLetter
from analytics_pipeline.events.producers import NAMELESS, OTHER
from analytics_pipeline.events.source_statistics import summarize
from analytics_pipeline.rollups.states import quantile_merge, quantile_value
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.copying import Copier, Cursor
from analytics_pipeline.storage.ledger import Line

MOST_PRODUCERS = 200
"""Named producers a UTC day, over all sources; the rest is counted as `__other__`."""

_MOST_DELTAS = 20_000
_MOST_STEPS = 25
_SCHEMA = pa.schema(
    [
        pa.field("batch_id", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("producer", pa.string()),
        pa.field("read", pa.int64()),
        pa.field("stored", pa.int64()),
        pa.field("duplicate", pa.int64()),
        pa.field("dead", pa.int64()),
        pa.field("reasons", pa.string()),
        pa.field("lateness", pa.binary()),
        pa.field("ahead_max_ms", pa.float64()),
    ]
)
_DELTAS = Copier("source_statistics_deltas", _SCHEMA, jsonb=frozenset({"reasons"}))

_TRY_ALONE = "SELECT pg_try_advisory_xact_lock(%s, 0)"
_TAKE = """
DELETE FROM source_statistics_deltas WHERE ctid = ANY(ARRAY(SELECT ctid FROM source_statistics_deltas LIMIT %s))
RETURNING date_trunc('hour', landed_at, 'UTC'), source, producer, read, stored, duplicate, dead, reasons, lateness,
    ahead_max_ms, landed_at, landed_at
"""
_KNOWN_PRODUCERS = """
SELECT DISTINCT date_trunc('day', hour, 'UTC'), producer FROM source_statistics
WHERE hour >= date_trunc('day', %s::timestamptz, 'UTC')
    AND hour < date_trunc('day', %s::timestamptz, 'UTC') + interval '1 day'
"""
_SAME = """
SELECT kept.hour, kept.source, kept.producer, kept.read, kept.stored, kept.duplicate, kept.dead, kept.reasons,
    kept.lateness, kept.ahead_max_ms, kept.first_at, kept.last_at
FROM source_statistics AS kept
INNER JOIN unnest(%s::timestamptz [], %s::text [], %s::text []) AS wanted (hour, source, producer)
    ON kept.hour = wanted.hour AND kept.source = wanted.source AND kept.producer = wanted.producer
"""
_KEEP = """
INSERT INTO source_statistics (
    hour, source, producer, read, stored, duplicate, dead, reasons, lateness, ahead_max_ms, first_at, last_at
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (hour, source, producer) DO UPDATE SET
    read = excluded.read, stored = excluded.stored, duplicate = excluded.duplicate, dead = excluded.dead,
    reasons = excluded.reasons, lateness = excluded.lateness, ahead_max_ms = excluded.ahead_max_ms,
    first_at = excluded.first_at, last_at = excluded.last_at
"""
_FORGET = "DELETE FROM source_statistics WHERE hour <= %s::timestamptz - interval '1 hour'"
_READ = """
SELECT hour, source, producer, read, stored, duplicate, dead, reasons, lateness, ahead_max_ms, first_at, last_at
FROM source_statistics WHERE hour >= date_trunc('hour', %(since)s::timestamptz, 'UTC') AND hour < %(until)s
    AND (%(source)s::text IS NULL OR source = %(source)s)
    AND (%(producer)s::text IS NULL OR producer = %(producer)s)
UNION ALL
SELECT date_trunc('hour', landed_at, 'UTC'), source, producer, read, stored, duplicate, dead, reasons, lateness,
    ahead_max_ms, landed_at, landed_at
FROM source_statistics_deltas
WHERE landed_at >= date_trunc('hour', %(since)s::timestamptz, 'UTC') AND landed_at < %(until)s
    AND (%(source)s::text IS NULL OR source = %(source)s)
    AND (%(producer)s::text IS NULL OR producer = %(producer)s)
"""


class _Row(NamedTuple):
    hour: datetime
    source: str
    producer: str
    read: int
    stored: int
    duplicate: int
    dead: int
    reasons: dict[str, int]
    lateness: bytes
    ahead_max_ms: float
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class SourceStatistics:
    """What one producer of one source sent in a range; times in ms, rates per second, None where nothing is known.

    `producer` is None for messages without a name. `ahead_…`: how far events are ahead of their message's time.
    """

    source: str
    producer: str | None
    first_at: datetime
    last_at: datetime
    read: int
    stored: int
    duplicate: int
    dead: int
    rate: float
    lateness_p50_ms: float | None
    lateness_p99_ms: float | None
    ahead_p99_ms: float | None
    ahead_max_ms: float
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Folded:
    """What one folding did: rows taken, rows written, rows forgotten because of their age."""

    taken: int = 0
    written: int = 0
    forgotten: int = 0


def append(
    cursor: Cursor,
    batch_id: int,
    decoded: Decoded,
    stored: pa.Table,
    dead: Sequence[DeadLetter],
    lines: Sequence[Line],
) -> None:
    """Add the sums of a batch, inside its landing transaction."""
    summaries = summarize(decoded.batches, decoded.arrivals, stored, dead, lines)
    if not summaries:
        return
    columns = {
        "batch_id": [batch_id] * len(summaries),
        "source": [one.source for one in summaries],
        "producer": [one.producer for one in summaries],
        "read": [one.read for one in summaries],
        "stored": [one.stored for one in summaries],
        "duplicate": [one.duplicate for one in summaries],
        "dead": [one.dead for one in summaries],
        "reasons": [_json(one.reasons) for one in summaries],
        "lateness": [one.lateness for one in summaries],
        "ahead_max_ms": [one.ahead_max_ms for one in summaries],
    }
    _DELTAS.copy(cursor, pa.table(columns, schema=_SCHEMA))


def fold(connection: Connection, *, now: datetime, keep: timedelta) -> Folded:
    """Fold everything that landings appended into hours, and forget hours that ended `keep` ago.

    Args:
        connection: idle or in autocommit; transactions of its own, of at most 20,000 rows each.
        now: the time.
        keep: how long hours are kept.

    Returns:
        What was done; nothing if somebody else is folding. After 25 steps the rest is left to the next call.
    """
    taken = written = 0
    for _ in range(_MOST_STEPS):
        with connection.transaction(), connection.cursor() as cursor:
            is_alone = cursor.execute(_TRY_ALONE, (Lock.STATISTICS,)).fetchone()
            if not (is_alone and is_alone[0]):
                return Folded(taken, written)
            rows = [_Row(*row) for row in cursor.execute(_TAKE, (_MOST_DELTAS,)).fetchall()]
            if rows:
                written += _keep(cursor, _admitted(cursor, rows))
                taken += len(rows)
            if len(rows) < _MOST_DELTAS:
                return Folded(taken, written, cursor.execute(_FORGET, (now - keep,)).rowcount)
    return Folded(taken, written)


def read(
    connection: Connection,
    *,
    since: datetime,
    until: datetime,
    source: str | None = None,
    producer: str | None = None,
) -> list[SourceStatistics]:
    """Statistics of what landed from the hour of `since` on and before `until`: folded and not yet folded together.

    Of all topics and producers, where none is named.

    Returns:
        One per source and producer, by source, busiest producer first.
    """
    asked = {"since": since, "until": until, "source": source, "producer": producer}
    found = connection.execute(_READ, asked).fetchall()
    start = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    seconds = max(1.0, (until - start).total_seconds())
    groups: dict[tuple[str, str], list[_Row]] = {}
    for row in map(_Row._make, found):
        groups.setdefault((row.source, row.producer), []).append(row)
    statistics = [_statistics(_sum(rows), seconds) for rows in groups.values()]
    return sorted(statistics, key=lambda one: (one.source, -one.read, one.producer or ""))


def _admitted(cursor: Cursor, rows: Sequence[_Row]) -> list[_Row]:
    """Rows under the name they may have: names of a day beyond the limit become `__other__`."""
    hours = [row.hour for row in rows]
    names: dict[Any, set[str]] = {}
    for day, producer in cursor.execute(_KNOWN_PRODUCERS, (min(hours), max(hours))).fetchall():
        names.setdefault(day, set()).add(producer)
    admitted = []
    for row in sorted(rows, key=lambda row: row.first_at):
        known = names.setdefault(row.hour.astimezone(UTC).replace(hour=0), set())
        if row.producer in {NAMELESS, OTHER} or row.producer in known:
            admitted.append(row)
        elif len(known - {NAMELESS, OTHER}) < MOST_PRODUCERS:
            known.add(row.producer)
            admitted.append(row)
        else:
            admitted.append(row._replace(producer=OTHER))
    return admitted


def _keep(cursor: Cursor, rows: Sequence[_Row]) -> int:
    groups: dict[tuple[datetime, str, str], list[_Row]] = {}
    for row in rows:
        groups.setdefault(row[:3], []).append(row)
    keys = sorted(groups)
    for kept in map(_Row._make, cursor.execute(_SAME, tuple(map(list, zip(*keys, strict=True)))).fetchall()):
        groups[kept[:3]].append(kept)
    sums = [_sum(groups[key]) for key in keys]
    cursor.executemany(_KEEP, [one._replace(reasons=Jsonb(one.reasons)) for one in sums])  # type: ignore[arg-type]
    return len(sums)


def _sum(rows: Sequence[_Row]) -> _Row:
    """One row of several of one producer; the hour is the first one's."""
    reasons: Counter[str] = Counter()
    for row in rows:
        reasons.update(row.reasons)
    return rows[0]._replace(
        read=sum(row.read for row in rows),
        stored=sum(row.stored for row in rows),
        duplicate=sum(row.duplicate for row in rows),
        dead=sum(row.dead for row in rows),
        reasons=dict(sorted(reasons.items())),
        lateness=_merge(row.lateness for row in rows),
        ahead_max_ms=max(row.ahead_max_ms for row in rows),
        first_at=min(row.first_at for row in rows),
        last_at=max(row.last_at for row in rows),
    )


def _merge(states: Iterable[bytes]) -> bytes:
    present = [state for state in states if state]
    return quantile_merge(present) if present else b""


def _statistics(row: _Row, seconds: float) -> SourceStatistics:
    def lateness(quantile: float) -> float | None:
        return round(quantile_value(row.lateness, quantile), 3) if row.lateness else None

    median, high, low = lateness(0.5), lateness(0.99), lateness(0.01)
    return SourceStatistics(
        source=row.source,
        producer=row.producer or None,
        first_at=row.first_at,
        last_at=row.last_at,
        read=row.read,
        stored=row.stored,
        duplicate=row.duplicate,
        dead=row.dead,
        rate=round(row.read / seconds, 6),
        lateness_p50_ms=None if median is None else max(0.0, median),
        lateness_p99_ms=None if high is None else max(0.0, high),
        ahead_p99_ms=None if low is None else max(0.0, -low),
        ahead_max_ms=round(row.ahead_max_ms, 3),
        reasons=row.reasons,
    )


def _json(reasons: Counter[str]) -> str:
    # Codes of an enum: nothing needs escaping.
    return "{" + ",".join(f'"{reason}":{count}' for reason, count in sorted(reasons.items())) + "}"
