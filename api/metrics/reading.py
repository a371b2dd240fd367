"""Answers of metrics: `read` turns a query into a result, on a connection that sees one snapshot.

Belongs here: what belongs to a result. Does not belong here: reading its cells (`reader`), JSON (`answers`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analytics_pipeline.events.times import micros
from analytics_pipeline.rollups.schema import LEVELS
from api.database import Connection, Reader
from api.metrics import measures
from api.metrics.buckets import DAY, UTC_ZONE, Buckets, Part
from api.metrics.points import Points, points_of, with_counts, with_earlier
from api.metrics.query import MetricQuery
from api.metrics.reader import CellReader
from api.metrics.register import (
    Day,
    Register,
    ask_gaps,
    ask_register,
    gaps_of,
    no_register,
    read_days,
    register_of,
)
from api.metrics.repository import Cursor, RowsRead
from api.metrics.spans import with_spans
from api.metrics.values import NO_CELLS
from api.times import days_of

_HOUR = LEVELS["1h"] * 1_000_000
_DAY = LEVELS[DAY] * 1_000_000


@dataclass(eq=False, slots=True)
class Marks:
    """What a reader should know of the version that answers, by bucket.

    Attributes:
        is_incomplete: events are missing until a backfill has read them.
        is_predecessor: an earlier definition answers.
    """

    is_incomplete: npt.NDArray[np.bool_]
    is_predecessor: npt.NDArray[np.bool_]


@dataclass(eq=False, slots=True)
class MetricResult:
    """The answer to a query.

    Attributes:
        query: the question.
        points: the page that is asked for.
        register: state and revision, by bucket.
        marks: by bucket.
        precision: how far values may be off.
        rows: how many rows were read.
        days: the versions of the UTC days that matter; only with `explain`.
    """

    query: MetricQuery
    points: Points
    register: Register
    marks: Marks
    precision: measures.Precision
    rows: RowsRead
    days: list[Day] = field(default_factory=list)


@asynccontextmanager
async def snapshot(database: Reader) -> AsyncIterator[Connection]:
    """A connection on which everything that is read is of one moment, and statements don't wait for each other.

    Up to its end, a pipeline is one transaction, and those of readers see one snapshot (`api.database`): `BEGIN` and
    `COMMIT` would be round trips of their own, which cost more than the statements where both cores are busy.

    Raises:
        Unavailable: Postgres cannot be asked.
    """
    async with database.read("metrics") as connection, connection.pipeline():
        yield connection


async def read(connection: Connection, query: MetricQuery) -> MetricResult:
    """Answer one query; `connection` is in a transaction that sees one snapshot (`snapshot`).

    Raises:
        BadRequest: there are too many points, or states to be merged.
    """
    rows, frame = RowsRead(), query.frame
    size = len(frame.buckets)
    marks = Marks(np.zeros(size, np.bool_), np.zeros(size, np.bool_))
    if query.metric is None:
        nothing = Points(NO_CELLS, np.empty(0, np.bool_))
        return MetricResult(query, nothing, no_register(size), marks, measures.EXACT, rows)
    async with connection.cursor(binary=True) as cursor:
        asked = await ask_register(connection, frame.buckets)
        gaps = await _ask_gaps(connection, query)
        reader = CellReader(cursor, query, rows)
        cells = await reader.cells()
        is_quantile = measures.quantile_of(query.aggregation) is not None
        if is_quantile:
            cells = await with_spans(cursor, query, frame.buckets, cells)
        points = points_of(
            cells, frame, query.is_unknown(frame.buckets), has_series=query.series.shown is not None
        )
        if frame.earlier is not None:
            earlier = await reader.earlier(points)
            if is_quantile:
                earlier = await with_spans(cursor, query, frame.earlier[0], earlier)
            points = with_earlier(points, earlier, frame, query.is_unknown(frame.earlier[0]))
        if frame.counts:
            points = with_counts(points, await reader.counts(points))
        register = await register_of(asked, frame.buckets, frame.over)
        await _mark(query, gaps, marks)
        result = MetricResult(query, points, register, marks, _precision(query, points), rows)
        if frame.explain:
            result.days = await read_days(cursor, *days_of(query.data_from, query.data_until))
    return result


def _precision(query: MetricQuery, points: Points) -> measures.Precision:
    if measures.quantile_of(query.aggregation) is not None:
        is_wide = points.is_unbounded.any() or points.is_compared_unbounded.any()
        return measures.OF_WIDE_QUANTILES if is_wide else measures.OF_QUANTILES
    return measures.OF_DISTINCT if points.cells.is_estimated else measures.EXACT


class _Gaps(NamedTuple):
    """What was asked of gaps: of each part of the buckets, and, where values are carried, of the days before them."""

    own: list[tuple[Part, Cursor]]
    carried: list[Cursor]


async def _ask_gaps(connection: Connection, query: MetricQuery) -> _Gaps:
    buckets = query.frame.buckets
    own = [(part, await ask_gaps(connection, buckets, part)) for part in query.parts(buckets)]
    carried = []
    if query.series.is_carried and len(buckets):
        # What is missing before is missing in what is carried.
        days = Buckets(DAY, DAY, UTC_ZONE, np.arange(0, buckets.edges[-1] + _DAY, _DAY))
        carried = [await ask_gaps(connection, days, part) for part in query.parts(days)]
    return _Gaps(own, carried)


async def _mark(query: MetricQuery, gaps: _Gaps, marks: Marks) -> None:
    buckets = query.frame.buckets
    starts, ends = buckets.edges[:-1], buckets.edges[1:]
    for part, asked in gaps.own:
        own = slice(part.begin, part.until)
        marks.is_predecessor[own] = part.served.is_predecessor
        lacking = starts < micros(part.served.complete_from)
        lacking |= ends > micros(part.served.complete_until)
        for gap in await gaps_of(asked):
            lacking |= (gap < ends) & (gap + _HOUR > starts)
        marks.is_incomplete[own] = lacking[own]
    for asked in gaps.carried:
        for gap in await gaps_of(asked):
            marks.is_incomplete |= gap < ends
