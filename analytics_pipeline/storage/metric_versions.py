"""Versions of metrics: which metric_id answers a name for which time, and where landings left one out.

Belongs here: the statements on `metric_versions` and `metric_gaps`. Does not belong here: what a metric is
(`rollups.catalog`), recomputing (`storage.recompute`), the order of a landing (`storage.landing`).

A version is registered while no landing is in flight (each holds the floor lock, shared). So of every landing one is
true: it committed before, and its events lie before `available_from`; or it began after, and computed the metric or
noted the hours in which it did not.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups.catalog import Catalog, Metric
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.copying import Cursor
from analytics_pipeline.storage.patience import patiently

_IN_FORCE = "SELECT metric_id FROM metric_versions WHERE superseded_at IS NULL"
_HOLD_FLOOR = "SELECT pg_advisory_xact_lock(%s, 0)"
_SEEN = """
SELECT known.event_type FROM unnest(%s::text[]) AS known (event_type)
WHERE EXISTS (SELECT FROM events WHERE events.event_type = known.event_type)
"""
_NEWEST = """
SELECT greatest('1970-01-01 00:00:00+00', raw_floor), (SELECT max(timestamp) FROM events),
    date_trunc('minute', greatest(clock_timestamp(), (SELECT max(timestamp) FROM events))) + interval '1 minute'
FROM retention_state
"""
_SUPERSEDE = """
UPDATE metric_versions SET superseded_at = clock_timestamp() WHERE metric_name = %s AND superseded_at IS NULL
"""
_REGISTER = """
INSERT INTO metric_versions (metric_name, metric_id, kind, event_types, available_from) VALUES (%s, %s, %s, %s, %s)
"""
# Of a day that begins before `served_until` it answers the whole 1d bucket, which is incomplete by itself only if the
# version was superseded before the day was over.
_LACKING = """
SELECT
    metric_id, event_types,
    nullif(max(CASE WHEN day_end <= superseded_at THEN day_end ELSE served_until END), 'infinity')
FROM metric_service
CROSS JOIN LATERAL (
    SELECT date_trunc('day', served_until + interval '1 day' - interval '1 microsecond', 'UTC') AS day_end
) AS days
WHERE metric_id <> ALL(%s) AND served_from < served_until GROUP BY metric_id, event_types
"""
_NOTE = """
INSERT INTO metric_gaps (metric_id, hour, batch_id)
SELECT gap.metric_id, gap.hour, %s FROM unnest(%s::text[], %s::timestamptz[]) AS gap (metric_id, hour)
ORDER BY gap.metric_id, gap.hour
ON CONFLICT (metric_id, hour) DO UPDATE SET batch_id = excluded.batch_id
"""
_VERSIONS = """
SELECT metric_name, metric_id, nullif(available_from, '-infinity'), superseded_at,
    nullif(served_from, '-infinity'), nullif(served_until, 'infinity')
FROM metric_service ORDER BY metric_name, version
"""
_GAPS = "SELECT metric_id, batch_id FROM metric_gaps WHERE hour = %s AND metric_id = ANY(%s)"
_GAP_HOURS = """
SELECT DISTINCT hour FROM metric_gaps WHERE metric_id = ANY(%s) AND hour >= %s AND hour < %s ORDER BY hour
"""
_COMPLETE = """
SELECT metric_id FROM metric_versions WHERE superseded_at IS NULL AND available_from <= %(hour)s
EXCEPT SELECT metric_id FROM metric_gaps WHERE hour = %(hour)s
"""
_AVAILABLE_FROM = """
SELECT max(available_from) FROM metric_versions WHERE metric_id = ANY(%s) AND superseded_at IS NULL
"""
_CLOSE = """
DELETE FROM metric_gaps AS gap USING unnest(%s::text[], %s::bigint[]) AS seen (metric_id, batch_id)
WHERE gap.hour = %s AND gap.metric_id = seen.metric_id AND gap.batch_id = seen.batch_id
"""
_SWITCH = """
UPDATE metric_versions AS version SET available_from = %(first)s
WHERE metric_id = ANY(%(ids)s) AND superseded_at IS NULL
    AND available_from > %(first)s AND available_from <= %(end)s
    AND NOT EXISTS (
        SELECT FROM metric_gaps AS gap
        WHERE gap.metric_id = version.metric_id AND gap.hour >= %(first)s AND gap.hour < %(end)s
    )
RETURNING metric_name
"""
_ERAS = """
SELECT metric_id, version FROM metric_versions WHERE superseded_at IS NULL AND metric_id = ANY(%s)
"""
_IN_SERVICE = """
SELECT metric_name, metric_id, version, available_from, (
    SELECT count(*) FROM metric_gaps AS gap WHERE gap.metric_id = known.metric_id
)
FROM metric_versions AS known WHERE superseded_at IS NULL ORDER BY metric_name
"""
Done = TypeVar("Done")


class Gap(NamedTuple):
    """An hour of a metric that some landing left out; `batch_id` is the last that did."""

    metric_id: str
    batch_id: int


class Version(NamedTuple):
    """One definition that a name has, or had: it answers for buckets that start in `[served_from, served_until)`.

    `available_from` is when its numbers begin; None stands for the beginning and the end of time.
    """

    metric_name: str
    metric_id: str
    available_from: datetime | None
    superseded_at: datetime | None
    served_from: datetime | None
    served_until: datetime | None


def versions(connection: Connection) -> list[Version]:
    """All versions of all metrics, by name, oldest first."""
    return [Version(*row) for row in connection.execute(_VERSIONS)]


class InService(NamedTuple):
    """The version of a metric that is in force: it answers from `available_from` on, but for so many hours."""

    name: str
    metric_id: str
    version: int
    available_from: datetime
    incomplete_hours: int


def register(connection: Connection, metrics: Iterable[Metric]) -> list[str]:
    """Let each of these be what its name means from now on; return the names for which that is new.

    A version is available from the next minute on that no event has reached yet; from the beginning, if there was
    never an event for it. The version before stays what it was for earlier buckets.

    Raises:
        Held: landings held the floor all the time; try again.
    """
    wanted = list(metrics)
    if not _missing(connection, wanted):
        return []
    return between_landings(connection, lambda: _register(connection, _missing(connection, wanted)))


def between_landings(connection: Connection, work: Callable[[], Done]) -> Done:
    """Do something to versions in a transaction during which no landing is in flight.

    Raises:
        Held: landings held the floor all the time; try again.
    """

    def held() -> Done:
        connection.execute(_HOLD_FLOOR, (Lock.FLOOR,))
        return work()

    return patiently(connection, held, "versions of metrics, which landings use,")


def _missing(connection: Connection, metrics: Sequence[Metric]) -> list[Metric]:
    known = {metric_id for [metric_id] in connection.execute(_IN_FORCE)}
    return [metric for metric in metrics if metric.metric_id not in known]


def _register(connection: Connection, metrics: Sequence[Metric]) -> list[str]:
    types = sorted({event_type for metric in metrics for event_type in metric.event_types})
    seen = {event_type for [event_type] in connection.execute(_SEEN, (types,))}
    row = connection.execute(_NEWEST).fetchone()
    assert row is not None
    beginning, newest, next_minute = row
    for metric in metrics:
        has_events = bool(seen & set(metric.event_types)) if metric.event_types else newest is not None
        connection.execute(_SUPERSEDE, (metric.name,))
        values = (metric.name, metric.metric_id, metric.kind.value, list(metric.event_types))
        connection.execute(_REGISTER, (*values, next_minute if has_events else beginning))
    return [metric.name for metric in metrics]


def note_gaps(cursor: Cursor, batch_id: int, events: pa.Table, catalog: Catalog) -> None:
    """Note what a landing lacks: hours of stored events that a metric counts which its catalog does not have.

    Inside the landing transaction, which holds the floor, and late in it: the row of a gap is locked until COMMIT.

    Args:
        cursor: of the transaction.
        batch_id: of the landing.
        events: those stored; event_type and timestamp.
        catalog: what its deltas were computed by.
    """
    lacking = cursor.execute(_LACKING, (list(catalog.by_id),)).fetchall()
    if not lacking or events.num_rows == 0:
        return
    hours = pc.floor_temporal(events.column("timestamp"), unit="hour")
    pairs = pa.table({"hour": hours, "type": events.column("event_type")}).group_by(["hour", "type"])
    touched = pairs.aggregate([]).to_pylist()
    gaps = {
        (metric_id, pair["hour"])
        for metric_id, event_types, until in lacking
        for pair in touched
        if (not event_types or pair["type"] in event_types) and (until is None or pair["hour"] < until)
    }
    if gaps:
        ids, starts = zip(*gaps, strict=True)
        cursor.execute(_NOTE, (batch_id, list(ids), list(starts)))


def gaps(connection: Connection, hour: datetime, metric_ids: Sequence[str]) -> list[Gap]:
    """What is left out in an hour, as the transaction sees it."""
    return [Gap(*row) for row in connection.execute(_GAPS, (hour, list(metric_ids)))]


def gap_hours(
    connection: Connection, metric_ids: Collection[str], first: datetime, end: datetime
) -> list[datetime]:
    """The hours of `[first, end)` in which one of these metrics lacks something, oldest first."""
    found = connection.execute(_GAP_HOURS, (list(metric_ids), first, end))
    return [hour for [hour] in found.fetchall()]


def complete_in(connection: Connection, metric_ids: Collection[str], hour: datetime) -> list[str]:
    """Those of these metrics whose numbers of an hour must be right: in force, available by then, nothing left out."""
    complete = {metric_id for [metric_id] in connection.execute(_COMPLETE, {"hour": hour}).fetchall()}
    return [metric_id for metric_id in metric_ids if metric_id in complete]


def available_from(connection: Connection, metric_ids: Collection[str]) -> datetime | None:
    """From when on all of these metrics answer: a backfill that goes so far leaves no hole."""
    row = connection.execute(_AVAILABLE_FROM, (list(metric_ids),)).fetchone()
    return row[0] if row else None


def close_gaps(connection: Connection, hour: datetime, found: Sequence[Gap]) -> None:
    """Forget gaps whose events a recompute has read; one that a later landing noted again stays."""
    ids, batches = [gap.metric_id for gap in found], [gap.batch_id for gap in found]
    connection.execute(_CLOSE, (ids, batches, hour))


def switch(connection: Connection, metric_ids: Collection[str], first: datetime, end: datetime) -> list[str]:
    """After a backfill of all hours in `[first, end)`: let these metrics answer from `first` on.

    Only those that are in force, begin within the range, and lack nothing in it. Returns their names.
    """
    values = {"ids": list(metric_ids), "first": first, "end": end}
    return sorted(name for [name] in connection.execute(_SWITCH, values))


def eras(connection: Connection, metric_ids: Collection[str]) -> dict[str, int]:
    """The number of the version in force of each metric: another one after it was superseded and came back."""
    return dict(connection.execute(_ERAS, (list(metric_ids),)).fetchall())


def in_service(connection: Connection) -> list[InService]:
    """The version in force of every metric, by name."""
    return [InService(*row) for row in connection.execute(_IN_SERVICE)]
