"""Ninety days for the API to answer from, made by Postgres itself.

Belongs here: settled rollups of all levels, raw events of the last days, and the landings of the open minute. Does not
belong here: what is asked (`questions`).

One hour is the simulator's own, rolled up by the product. Every other hour is that one again, at another time and with
other ids: so each whole hour of all the days holds the same, and what a right answer is follows from the first.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups import levels
from analytics_pipeline.rollups.catalog import BUILT_IN, Kind
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import LEVELS, TIMESTAMP
from analytics_pipeline.storage import event_indexes, ledger, rollups
from benchmarks import stored

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AHEAD = 3 * HOUR
"""Data of hours to come, so that a long run does not leave its last hour behind."""

_LANDINGS = 300
"""A minute: one every 200 ms, the default `batch_timeout`."""
_WRITERS = 2
_HOURLY = ("1m", "5m", "15m", "1h")
_ROWS = """
INSERT INTO metric_aggregations (
    metric_name, interval, time_bucket, count, sum, avg, min, max, p50, p95, p99, dimensions, metric_id,
    dimension_set, sum_exact, distinct_count, first, last
)
SELECT
    metric_name, interval, time_bucket + numbers.number * %(width)s, count, sum, avg, min, max, p50, p95, p99,
    dimensions, metric_id, dimension_set, sum_exact, distinct_count, first, last
FROM metric_aggregations
CROSS JOIN generate_series(%(first)s::integer, %(last)s::integer) AS numbers (number)
WHERE interval = %(interval)s AND time_bucket >= %(start)s AND time_bucket < %(start)s + %(width)s
ORDER BY numbers.number
"""
_STATES = """
INSERT INTO metric_states (metric_id, interval, time_bucket, dimension_set, dimensions, kind, state)
SELECT metric_id, interval, time_bucket + numbers.number * %(width)s, dimension_set, dimensions, kind, state
FROM metric_states
CROSS JOIN generate_series(%(first)s::integer, %(last)s::integer) AS numbers (number)
WHERE interval = %(interval)s AND time_bucket >= %(start)s AND time_bucket < %(start)s + %(width)s
ORDER BY numbers.number
"""
# The time inside each id moves along with its event.
_EVENTS = """
INSERT INTO events (id, event_type, user_id, session_id, properties, timestamp, source, source_partition, source_offset)
SELECT
    (
        lpad(to_hex(floor(extract(EPOCH FROM timestamp + numbers.number * %(width)s) * 1000)::bigint), 12, '0')
        || substr(replace(id::text, '-', ''), 13)
    )::uuid,
    event_type, user_id, session_id, properties, timestamp + numbers.number * %(width)s, source, source_partition,
    source_offset + numbers.number * 10000000
FROM events
CROSS JOIN generate_series(%(first)s::integer, %(last)s::integer) AS numbers (number)
WHERE timestamp >= %(start)s AND timestamp < %(start)s + %(width)s
ORDER BY numbers.number, timestamp
"""
_BUCKETS = """
INSERT INTO metric_buckets (interval, time_bucket, state)
SELECT %(interval)s, bucket, 'final'
FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 second', %(width)s) AS bucket
"""
_DAYS = """
INSERT INTO rollup_days (day, revision)
SELECT day::date, 1 FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz, interval '1 day') AS day
"""
_NEXT_BATCH = "SELECT nextval('ingest_batch_id_seq')"


@dataclass(frozen=True)
class Stored:
    """What there is.

    Attributes:
        conninfo: the database.
        first: midnight from which on there are rollups.
        raw_first: midnight from which on there are events.
        now: when it was made, at the start of its hour.
        end: there is nothing from here on.
        by_type: events of each type in any whole hour.
    """

    conninfo: str
    first: datetime
    raw_first: datetime
    now: datetime
    end: datetime
    by_type: dict[str, int]

    @property
    def today(self) -> datetime:
        """The midnight before `now`."""
        return self.now.replace(hour=0)

    @property
    def events_per_hour(self) -> int:
        """In any whole hour."""
        return sum(self.by_type.values())

    def rows(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Ask Postgres, for comparison."""
        with psycopg.connect(self.conninfo, options="-c timezone=UTC") as opened:
            return opened.execute(statement, parameters).fetchall()

    def hourly(self, metric_name: str, column: str) -> float:
        """What the total of a metric is at 1h, in every hour."""
        [[value]] = self.rows(
            f"SELECT {column} FROM metric_aggregations WHERE interval = '1h' AND time_bucket = %(at)s"
            " AND metric_name = %(name)s AND dimension_set = ''",
            at=self.first,
            name=metric_name,
        )
        return float(value)

    def sizes(self) -> dict[str, int]:
        """Rows of each kind, as Postgres estimates them after ANALYZE, and all bytes."""
        rows = self.rows(
            "SELECT split_part(relname, '_p', 1), sum(reltuples)::bigint FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples > 1000 GROUP BY 1 ORDER BY 1"
        )
        [[size]] = self.rows("SELECT pg_database_size(current_database())")
        return {name: int(count) for name, count in rows} | {"megabytes": size >> 20}


def fill(conninfo: str, *, days: int, raw_days: int, rate: float, seed: int) -> Stored:
    """Make so many days that end now: rollups of all of them, events of the last ones, indexes as maintenance has them.

    Args:
        conninfo: a migrated database with its partitions.
        days: with rollups, today included.
        raw_days: with events.
        rate: events a second, the same in every hour.
        seed: of the simulator.
    """
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    today = now.replace(hour=0)
    first, raw_first, end = today - (days - 1) * DAY, today - (raw_days - 1) * DAY, now + AHEAD
    hour = stored.simulated(first, int(3600 * rate), rate, seed=seed)
    with psycopg.connect(conninfo, autocommit=True, options="-c timezone=UTC") as opened:
        _write_first_hour(opened, hour, first)
        by_type = _write_first_events(opened, first, raw_first, seed=seed, rate=rate)
        _fill_in(conninfo, first, raw_first, end)
        for interval, seconds in LEVELS.items():
            span = {"interval": interval, "width": timedelta(seconds=seconds), "start": first, "end": end}
            opened.execute(_BUCKETS, span)
        opened.execute(_DAYS, {"start": first, "end": end})
        event_indexes.index_closed_days(opened, now=now)
        opened.execute("VACUUM ANALYZE")
    return Stored(conninfo, first, raw_first, now, end, by_type)


def _write_first_hour(opened: psycopg.Connection[Any], hour: pa.Table, first: datetime) -> None:
    found = levels.roll_up_all(compute_deltas(hour, BUILT_IN))
    hours = pa.concat_tables([_at(found["1h"], first + number * HOUR) for number in range(24)])
    found["1d"] = levels.roll_up(hours, "1d")
    for level, rows in found.items():
        with opened.transaction():
            rollups.write_rows(opened, level, rows.filter(pc.not_equal(rows["kind"], Kind.REGISTER.value)))


def _at(rows: pa.Table, start: datetime) -> pa.Table:
    return rows.set_column(0, rows.schema.field(0), pa.array([start] * rows.num_rows, TIMESTAMP))


def _write_first_events(
    opened: psycopg.Connection[Any], first: datetime, raw_first: datetime, *, seed: int, rate: float
) -> dict[str, int]:
    """The same hour at the first day that has events; how many there are of each type."""
    events = stored.simulated(first, int(3600 * rate), rate, seed=seed)
    moved = pa.array(events["timestamp"].cast(pa.int64()).to_numpy() + _micros(raw_first - first)).cast(
        TIMESTAMP
    )
    place = events.schema.get_field_index("timestamp")
    with opened.transaction():
        stored.copy_events(opened, events.set_column(place, events.schema.field(place), moved))
    counts = opened.execute("SELECT event_type::text, count(*) FROM events GROUP BY 1").fetchall()
    return dict(sorted(counts))


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)


def _fill_in(conninfo: str, first: datetime, raw_first: datetime, end: datetime) -> None:
    """All other hours, a day at a time, so that what is sorted stays small, over a few connections."""
    work: list[tuple[str, dict[str, Any]]] = []
    for interval in _HOURLY:
        span = {"interval": interval, "width": HOUR, "start": first}
        work += [(_ROWS, span | part) for part in _parts((end - first) // HOUR, 24)]
        # States of minutes are kept for as long as events are.
        work += [(_STATES, span | part) for part in _parts((end - first) // HOUR, 24)]
    whole_days = {"interval": "1d", "width": DAY, "start": first}
    for statement in (_ROWS, _STATES):
        work += [(statement, whole_days | part) for part in _parts((end - first) // DAY + 1, 31)]
    work += [
        (_EVENTS, {"width": HOUR, "start": raw_first} | part)
        for part in _parts((end - raw_first) // HOUR, 24)
    ]
    with ThreadPoolExecutor(_WRITERS) as writers:
        list(writers.map(lambda one: _run(conninfo, *one), work))


def _parts(count: int, size: int) -> list[dict[str, int]]:
    """The numbers 1 to `count` − 1 in parts; number 0 is there already."""
    return [{"first": begin, "last": min(begin + size, count) - 1} for begin in range(1, count, size)]


def _run(conninfo: str, statement: str, parameters: dict[str, Any]) -> None:
    with psycopg.connect(conninfo, autocommit=True, options="-c timezone=UTC") as opened:
        opened.execute("SET synchronous_commit = off")
        opened.execute(statement, parameters)


class OpenMinute:
    """What landings at a rate leave pending while nobody has merged yet: a minute of them."""

    def __init__(self, rate: int, *, seed: int) -> None:
        self.rate = rate
        start = datetime(2026, 1, 1, tzinfo=UTC)
        events = stored.simulated(start, 60 * rate, rate, seed=seed)
        edges = [number * events.num_rows // _LANDINGS for number in range(_LANDINGS + 1)]
        self._landings = [
            compute_deltas(events.slice(begin, end - begin), BUILT_IN) for begin, end in pairwise(edges)
        ]

    def land(self, conninfo: str) -> int:
        """Replace what is pending: half of the landings in the minute before now, half in this one; how many deltas."""
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        with psycopg.connect(conninfo, options="-c timezone=UTC") as opened, opened.cursor() as cursor:
            cursor.execute("TRUNCATE rollup_deltas, pending_batches")
            for number, deltas in enumerate(self._landings):
                at = minute - timedelta(minutes=1) if number < _LANDINGS // 2 else minute
                [batch] = cursor.execute(_NEXT_BATCH).fetchone() or [0]
                ledger.write_deltas(cursor, batch, _moved(deltas, at))
            opened.commit()
            opened.autocommit = True
            opened.execute("VACUUM ANALYZE rollup_deltas, pending_batches")
        return sum(deltas.num_rows for deltas in self._landings)


def _moved(deltas: pa.Table, minute: datetime) -> pa.Table:
    times: Sequence[tuple[str, datetime]] = (("hour", minute.replace(minute=0)), ("minute", minute))
    for name, at in times:
        place = deltas.schema.get_field_index(name)
        deltas = deltas.set_column(
            place, deltas.schema.field(place), pa.array([at] * deltas.num_rows, TIMESTAMP)
        )
    return deltas
