"""Places of series: who is admitted to `metric_series`, and what a process remembers of it.

Belongs here: the statements on `metric_series`. Does not belong here: what becomes of a series without a place
(`rollups.cardinality`), how many there are (`Metric.series_limit`).

A UTC day has `series_limit` places for each dimension set of a metric; who asks first gets one. Both verdicts are
final: a place is never taken back, and nobody is refused before all places are taken. So they may be remembered, and
landings, recomputes and processes agree without asking each other. A place is committed before the transaction that
needs it: if that one fails, the next that has the series finds its place.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from heapq import nsmallest
from types import TracebackType
from typing import NamedTuple, Self

import psycopg
import pyarrow as pa

from analytics_pipeline.errors import EnvironmentFault, InvariantBroken
from analytics_pipeline.failpoints import FailPoint, fail_at
from analytics_pipeline.rollups.cardinality import Place, Places, other_of, places_of, put_together
from analytics_pipeline.rollups.catalog import Metric, dimension_set_name
from analytics_pipeline.rollups.schema import canonical_dimensions
from analytics_pipeline.storage.connection import Connection, Lock, connect, is_data_error

_LOCK_DAY = "SELECT pg_advisory_xact_lock(%s, %s - date '1970-01-01')"
# A statement of its own: its snapshot must be younger than the lock.
_TAKEN = """
SELECT metric_id, dimension_set, dimensions::text FROM metric_series
WHERE day = %s AND (metric_id, dimension_set) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""
_ADMIT = """
INSERT INTO metric_series (day, metric_id, dimension_set, dimensions)
SELECT %s, asked.* FROM unnest(%s::text[], %s::text[], %s::jsonb[]) AS asked
"""

_USAGE = """
WITH counted AS (
    SELECT
        metric_id, dimension_set, day, sum(count)::bigint AS events,
        coalesce(sum(count) FILTER (WHERE dimensions = ANY(%(others)s::jsonb[])), 0)::bigint AS others
    FROM (
        SELECT metric_id, dimension_set, (time_bucket AT TIME ZONE 'UTC')::date AS day, dimensions, count
        FROM metric_aggregations WHERE interval = '1d' AND dimension_set <> '' AND time_bucket >= %(since)s
        UNION ALL
        SELECT metric_id, dimension_set, (minute AT TIME ZONE 'UTC')::date, dimensions, count
        FROM rollup_deltas WHERE dimension_set <> '' AND hour >= %(since)s
    ) AS both_halves
    GROUP BY metric_id, dimension_set, day
),
places AS (
    SELECT metric_id, dimension_set, day, count(*) AS series FROM metric_series
    WHERE day >= (%(since)s AT TIME ZONE 'UTC')::date GROUP BY metric_id, dimension_set, day
)
SELECT metric_id, dimension_set, day, coalesce(series, 0), coalesce(events, 0), coalesce(others, 0)
FROM places FULL JOIN counted USING (metric_id, dimension_set, day)
WHERE metric_id = ANY(%(ids)s)
"""
_TODAY = """
SELECT version.metric_name, series.dimension_set, count(*)
FROM metric_versions AS version
INNER JOIN metric_series AS series ON series.metric_id = version.metric_id
WHERE version.superseded_at IS NULL AND series.day = (clock_timestamp() AT TIME ZONE 'UTC')::date
GROUP BY version.metric_name, series.dimension_set
"""
# As long as a day has 1d rows it can be recomputed, from raw or from an archive, and needs its verdicts.
_IS_EXPIRED = """
day < (SELECT min(lower_bound) FROM time_partitions WHERE parent = 'metric_aggregations_1d')::date
"""
_COUNT_EXPIRED = f"SELECT count(*) FROM metric_series WHERE {_IS_EXPIRED}"  # noqa: S608  (constants of this module)
_REMOVE_EXPIRED = f"""
DELETE FROM metric_series WHERE day = (SELECT min(day) FROM metric_series) AND {_IS_EXPIRED}
"""  # noqa: S608  (constants of this module)

_MOST_REMEMBERED = 200_000
"""Places, some 60 MB: far more than a day has."""
_STATEMENT_TIMEOUT = "3s"
# Whoever is stopped while holding a day lets go of it before others lose their patience.
_IDLE_TIMEOUT = "2s"


class Usage(NamedTuple):
    """A dimension set of a metric in a UTC day: series with a place, events, and those of them under `__other__`."""

    metric_id: str
    dimension_set: str
    day: date
    series: int
    events: int
    others: int


class _Day(NamedTuple):
    """What is known of a UTC day. Whoever is not in `taken` is refused where the budget is in `full`."""

    taken: frozenset[Place]
    full: frozenset[tuple[str, str]]


_NOTHING = _Day(frozenset(), frozenset())


class Admission:
    """Verdicts for one process, remembered; for any number of threads.

    Connects when it has to ask, and again after a failure; what it knows costs no query.
    """

    def __init__(self, conninfo: str, *, name: str = "admission", writes: bool = True) -> None:
        """Without `writes` it admits in memory alone, as a preview does."""
        self._conninfo = conninfo
        self._name = name
        self._writes = writes
        self._days: dict[date, _Day] = {}
        self._connection: Connection | None = None
        self._asking = threading.Lock()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Disconnect; nothing is forgotten."""
        with self._asking:
            if self._connection is not None:
                self._connection.close()

    def within_budget(self, deltas: pa.Table, metrics: Mapping[str, Metric]) -> pa.Table:
        """The deltas, in which series of these metrics without a place are counted as `__other__`.

        Args:
            deltas: `DELTAS_SCHEMA`.
            metrics: by id; rows of others stay as they are.

        Raises:
            EnvironmentFault: a place had to be asked for, and Postgres did not answer; ask again.
        """
        places = places_of(deltas, metrics)
        refused = self._refused(places, metrics)
        return put_together(deltas, places.rows_of(refused), metrics) if refused else deltas

    def _refused(self, places: Places, metrics: Mapping[str, Metric]) -> set[Place]:
        wanted = {place for place in places.wanted if place is not None}
        refused = set()
        for day in {place.day for place in wanted}:
            of_day = {place for place in wanted if place.day == day}
            known = self._days.get(day, _NOTHING)
            undecided = {place for place in of_day - known.taken if place.budget not in known.full}
            if undecided:
                numbered = zip(places.wanted, places.counts, strict=True)
                counts = {place: count for place, count in numbered if place in undecided}
                known = self._ask(day, counts, metrics)
            refused |= of_day - known.taken
        return refused

    def _ask(self, day: date, counts: Mapping[Place, int], metrics: Mapping[str, Metric]) -> _Day:
        with self._asking:
            try:
                known = self._admit(day, counts, metrics)
            except psycopg.Error as error:
                if self._connection is not None:
                    self._connection.close()
                if is_data_error(error):
                    raise InvariantBroken(f"Postgres refused a series ({error.sqlstate})") from error
                raise EnvironmentFault(f"Postgres did not admit series ({error.sqlstate})") from error
            self._days[day] = known
            while (
                len(self._days) > 1 and sum(len(one.taken) for one in self._days.values()) > _MOST_REMEMBERED
            ):
                del self._days[min(other for other in self._days if other != day)]
            return known

    def _admit(self, day: date, counts: Mapping[Place, int], metrics: Mapping[str, Metric]) -> _Day:
        """Admit as many as there is room for; returns all that is known of the day then.

        Of those who come together who counts more comes first; then the order is that of names.
        """
        known = self._days.get(day, _NOTHING)
        asked: dict[tuple[str, str], list[Place]] = defaultdict(list)
        for place in counts:
            asked[place.budget].append(place)
        ids, sets = zip(*asked, strict=True)
        connection = self._open()
        with connection.transaction():
            if self._writes:
                connection.execute(_LOCK_DAY, (Lock.SERIES, day))
                fail_at(FailPoint.IN_ADMISSION)
            rows = connection.execute(_TAKEN, (day, list(ids), list(sets))).fetchall()
            taken = {place for place in known.taken if place.budget in asked}.union(_places(day, rows))
            used = Counter(place.budget for place in taken)
            admitted: list[Place] = []
            for budget, wanted in asked.items():
                room = metrics[budget[0]].series_limit - used[budget]
                admitted += nsmallest(
                    room,
                    (place for place in wanted if place not in taken),
                    key=lambda place: (-counts[place], place.dimensions),
                )
            if admitted and self._writes:
                _, *columns = zip(*admitted, strict=True)
                connection.execute(_ADMIT, (day, *map(list, columns)))
        used.update(place.budget for place in admitted)
        full = {budget for budget in asked if used[budget] >= metrics[budget[0]].series_limit}
        return _Day(known.taken.union(taken, admitted), known.full | full)

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(
                self._conninfo,
                name=self._name,
                autocommit=True,
                statement_timeout=_STATEMENT_TIMEOUT,
                idle_in_transaction_session_timeout=_IDLE_TIMEOUT,
            )
        return self._connection


def _places(day: date, rows: Iterable[tuple[str, str, str]]) -> Iterable[Place]:
    found = list(rows)
    texts = canonical_dimensions(pa.array([row[2] for row in found], pa.string())).to_pylist()
    for (metric_id, dimension_set, _), dimensions in zip(found, texts, strict=True):
        yield Place(day, metric_id, dimension_set, dimensions)


def usage(connection: Connection, metrics: Mapping[str, Metric], since: datetime) -> list[Usage]:
    """How the places of these metrics, by id, were used on each UTC day from `since` on, settled and pending."""
    sets = {dimension_set_name(one) for metric in metrics.values() for one in metric.dimension_sets if one}
    values = {"since": since, "ids": list(metrics), "others": [other_of(one) for one in sorted(sets)]}
    return [Usage(*row) for row in connection.execute(_USAGE, values)]


def taken_today(connection: Connection) -> dict[tuple[str, str], int]:
    """How many places are taken in the present UTC day, by name of the metric in force and dimension set."""
    return {(name, dimension_set): count for name, dimension_set, count in connection.execute(_TODAY)}


def count_expired(connection: Connection) -> int:
    """How many places `remove_expired` would remove."""
    return int(connection.execute(_COUNT_EXPIRED).fetchall()[0][0])


def remove_expired(connection: Connection) -> int:
    """Remove the places of days that have no 1d rows any more, a day a transaction; how many there were.

    Args:
        connection: in autocommit.
    """
    removed = 0
    while of_day := connection.execute(_REMOVE_EXPIRED).rowcount:
        removed += of_day
    return removed
