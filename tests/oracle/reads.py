"""What the API's read of metrics answers, in this process and without HTTP, beside what plain SQL says it has to be.

Belongs here: asking `api.metrics` as its endpoint does, and comparing points. Does not belong here: what the numbers
have to be (`naive`, `edits`), when to ask (`machine`).
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode

import orjson
import psycopg
from psycopg.conninfo import make_conninfo

from analytics_pipeline.rollups.catalog import Aggregation, Catalog, dimension_set_name
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import Connection, session_options
from api.database import Database, read_settings
from api.metrics.answers import shown
from api.metrics.query import read_queries
from api.metrics.reading import read, snapshot
from api.metrics.service import MetricService
from tests.oracle.naive import Mistake

_MANY = 1_000_000
_IS_KNOWN = "SELECT oracle.is_known(%s)"
_TYPES = "SELECT DISTINCT event_type FROM oracle.truth ORDER BY 1"
_EXPECTED = """
SELECT
    time_bucket, dimensions, count, sum, is_exact, sum_off, min, max, p50, p95, p99, distinct_count, largest, first,
    last, is_incomplete, is_predecessor
FROM oracle.expected
WHERE metric_name = %s AND interval = %s AND dimension_set = %s AND time_bucket >= %s AND time_bucket < %s
"""


_COMPARED = {
    Aggregation.COUNT, Aggregation.SUM, Aggregation.AVG, Aggregation.RATIO, Aggregation.MIN, Aggregation.MAX,
    Aggregation.P50, Aggregation.P95, Aggregation.P99, Aggregation.DISTINCT, Aggregation.FIRST, Aggregation.LAST,
    Aggregation.OHLC,
}  # fmt: skip


_ONE_VALUE = (Aggregation.MIN, Aggregation.MAX, Aggregation.FIRST, Aggregation.LAST, Aggregation.OHLC)
"""What one event says, as it says it."""


class Question(NamedTuple):
    """A question to `/api/v1/metrics`."""

    metric_name: str
    interval: str
    aggregation: str
    group_by: str | None
    start: datetime
    end: datetime

    @property
    def query_string(self) -> bytes:
        """As it stands in an address."""
        asked = {
            "metric_name": self.metric_name,
            "interval": self.interval,
            "aggregation": self.aggregation,
            "start_time": self.start.isoformat(),
            "end_time": self.end.isoformat(),
            **({"group_by": self.group_by} if self.group_by else {}),
        }
        return urlencode(asked).encode()


class Point(NamedTuple):
    """A point of an answer."""

    timestamp: datetime
    dimensions: dict[str, str]
    value: float
    is_incomplete: bool
    is_predecessor: bool
    ohlc: tuple[float, ...] | None

    @classmethod
    def of(cls, found: dict[str, Any]) -> "Point":
        """As it is in an answer."""
        at = datetime.fromisoformat(found["timestamp"])
        ohlc = tuple(found[name] for name in ("open", "high", "low", "close")) if "open" in found else None
        marks = (found.get(name, False) for name in ("incomplete", "predecessor"))
        return cls(at, found["dimensions"], found["value"], *marks, ohlc)


class _OneConnection:
    """Where the API has pools of them."""

    def __init__(self, opened: psycopg.AsyncConnection[Any]) -> None:
        self._opened = opened

    @asynccontextmanager
    async def read(self, _query: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        yield self._opened


class Reads:
    """The API's reads, over one connection named `api-read`; for one thread."""

    def __init__(self, conninfo: str) -> None:
        options = session_options(**read_settings(Settings()))
        self._conninfo = make_conninfo(conninfo, application_name="analytics-api-read", options=options)
        self._runner = asyncio.Runner()
        self._opened: psycopg.AsyncConnection[Any] | None = None
        self._service = MetricService()
        self._known: dict[Catalog, list[str]] = {}

    def close(self) -> None:
        """Leave the database."""
        if self._opened is not None:
            self._runner.run(self._opened.close())
        self._runner.close()

    def ask_something(
        self, main: Connection, catalog: Catalog, chance: random.Random, times: list[datetime]
    ) -> Question:
        """Any metric that plain SQL knows, by any of its dimensions, as any of its aggregations, at any interval."""
        if catalog not in self._known:
            names = [one.name for one in catalog.metrics if set(one.aggregations) <= _COMPARED]
            self._known[catalog] = [one for one in names if main.execute(_IS_KNOWN, (one,)).fetchall()[0][0]]
        name = chance.choice(self._known[catalog])
        metric = catalog.by_name[name]
        groups = [dimension_set_name(one) for one in metric.dimension_sets if one]
        group_by = chance.choice([None, *groups] if metric.has_total else groups)
        if metric.name_by_dimension and group_by is not None:
            types = [event_type for [event_type] in main.execute(_TYPES).fetchall()]
            name, group_by = f"{name}.{chance.choice(types or ['order.filled'])}", None
        start, end = sorted(chance.sample(times, 2)) if chance.random() < 0.5 else (min(times), max(times))
        interval, aggregation = chance.choice(list(LEVELS)), chance.choice(metric.aggregations)
        return Question(name, interval, aggregation.value, group_by, start, end)

    def reload(self) -> None:
        """Know the versions of metrics as they are now; the API does so when it is told that one changed."""
        self._runner.run(self._reload())

    def points(self, catalog: Catalog, asked: Question) -> list[Point]:
        """The answer of an API of the release with this catalog."""
        return self._runner.run(self._points(catalog, asked))

    def mistakes(self, main: Connection, catalog: Catalog, asked: Question) -> Iterator[Mistake]:
        """Compare an answer with `oracle.expected`: each point, its marks, and that there are no others."""
        selection = catalog.resolve(asked.metric_name)
        assert selection is not None
        dimension_set = asked.group_by or selection.dimension_set
        span = (asked.metric_name, asked.interval, dimension_set, asked.start, asked.end)
        rows = main.execute(_EXPECTED, span).fetchall()
        expected = {(row[0], _text(row[1] if asked.group_by else {})): row[2:] for row in rows}
        found = {(point.timestamp, _text(point.dimensions)): point for point in self.points(catalog, asked)}
        aggregation = Aggregation(asked.aggregation)
        for key in expected.keys() | found.keys():
            row, point = expected.get(key), found.get(key)
            if row is None or not _is_right(aggregation, row, point):
                yield Mistake(f"the API's {asked}: expected row and point", (key, row, point))

    async def _connection(self) -> psycopg.AsyncConnection[Any]:
        if self._opened is None or self._opened.closed:
            self._opened = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        return self._opened

    async def _reload(self) -> None:
        await self._service.reload(await self._connection())

    async def _points(self, catalog: Catalog, asked: Question) -> list[Point]:
        [query] = read_queries(
            asked.query_string,
            now=asked.end,
            max_points=_MANY,
            catalog=catalog,
            versions_of=self._service.of,
        )
        database = cast(Database, _OneConnection(await self._connection()))
        async with snapshot(database) as connection:
            result = shown(await read(connection, query), cached=False)
        found: list[dict[str, Any]] = orjson.loads(orjson.dumps(result))["data_points"]
        return [Point.of(point) for point in found]


def _text(dimensions: Any) -> str:
    return json.dumps(dimensions, sort_keys=True)


def _is_right(aggregation: Aggregation, row: tuple[Any, ...], point: Point | None) -> bool:
    (
        count,
        total,
        is_exact,
        sum_off,
        smallest,
        largest,
        p50,
        p95,
        p99,
        distinct,
        magnitude,
        first,
        last,
        *marks,
    ) = row
    is_incomplete, is_predecessor = marks
    if is_incomplete:  # events may be missing, never too many
        return point is None or (
            (point.is_incomplete, point.is_predecessor) == (True, is_predecessor)
            and (aggregation is not Aggregation.COUNT or point.value <= count)
        )
    expected: Any = {
        Aggregation.COUNT: count,
        Aggregation.SUM: total,
        Aggregation.AVG: total / count if count and total is not None else None,
        Aggregation.RATIO: total / count if count and total is not None else None,
        Aggregation.MIN: smallest,
        Aggregation.MAX: largest,
        Aggregation.P50: p50,
        Aggregation.P95: p95,
        Aggregation.P99: p99,
        Aggregation.DISTINCT: distinct,
        Aggregation.FIRST: first,
        Aggregation.LAST: last,
        Aggregation.OHLC: last,
    }[aggregation]
    if expected is None or point is None:
        return expected is None and point is None
    if point.is_incomplete or point.is_predecessor is not is_predecessor:
        return False
    value = float(expected)
    allowed = {
        Aggregation.SUM: float(sum_off or 0),
        Aggregation.AVG: 1e-9 * abs(value) + float(sum_off or 0),
        Aggregation.RATIO: 1e-9 * abs(value) + float(sum_off or 0),
        **dict.fromkeys(_ONE_VALUE, 0.0 if is_exact else 1e-9 + 1e-9 * abs(value)),
    }.get(aggregation, 0.0)
    if aggregation is Aggregation.OHLC and (
        point.ohlc is None
        or any(
            abs(one - float(other)) > allowed
            for one, other in zip(point.ohlc, (first, largest, smallest, last), strict=True)
        )
    ):
        return False
    if aggregation in (Aggregation.P50, Aggregation.P95, Aggregation.P99):
        is_in_last_bin = abs(value) * 7.7e8 < float(magnitude)
        allowed = float(magnitude) / 7.6e8 if is_in_last_bin else 0.0050001 * abs(value)
    return abs(point.value - value) <= allowed
