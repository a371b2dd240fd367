"""Answers of metrics: `read` turns a query into a result, on a connection that sees one snapshot.

Belongs here: what belongs to a result. Does not belong here: reading its cells (`reader`), JSON (`answers`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from psycopg.pq import TransactionStatus

from analytics_pipeline.rollups.schema import LEVELS
from api.database import Connection, Reader
from api.metrics import measures
from api.metrics.buckets import DAY, UTC_ZONE, Buckets, micros
from api.metrics.points import Points, points_of, with_earlier
from api.metrics.query import MetricQuery
from api.metrics.reader import CellReader
from api.metrics.register import Day, Register, no_register, read_days, read_gaps, read_register
from api.metrics.repository import Cursor, RowsRead
from api.metrics.values import NO_CELLS, Cells
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
    """A connection on which everything that is read is of one moment.

    Raises:
        Unavailable: Postgres cannot be asked.
    """
    async with database.read("metrics") as connection:
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            yield connection  # of a snapshot that several reads share
            return
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
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
        reader = CellReader(cursor, query, rows)
        cells = await reader.cells()
        points = points_of(cells, frame, has_series=query.series.shown is not None)
        if frame.earlier is not None:
            points = with_earlier(points, await reader.earlier(points), frame)
        register = await read_register(cursor, frame.buckets, frame.over)
        await _mark(cursor, query, marks)
        result = MetricResult(query, points, register, marks, _precision(query, cells), rows)
        if frame.explain:
            result.days = await read_days(cursor, *days_of(query.data_from, query.data_until))
    return result


def _precision(query: MetricQuery, cells: Cells) -> measures.Precision:
    if measures.quantile_of(query.aggregation) is not None:
        return measures.OF_QUANTILES
    return measures.OF_DISTINCT if cells.is_estimated else measures.EXACT


async def _mark(cursor: Cursor, query: MetricQuery, marks: Marks) -> None:
    buckets = query.frame.buckets
    starts, ends = buckets.edges[:-1], buckets.edges[1:]
    for part in query.parts(buckets):
        own = slice(part.begin, part.until)
        marks.is_predecessor[own] = part.served.is_predecessor
        lacking = starts < micros(part.served.complete_from)
        lacking |= ends > micros(part.served.complete_until)
        for gap in await read_gaps(cursor, buckets, part):
            lacking |= (gap < ends) & (gap + _HOUR > starts)
        marks.is_incomplete[own] = lacking[own]
    if query.series.is_carried and len(buckets):
        # What is missing before is missing in what is carried.
        days = Buckets(DAY, DAY, UTC_ZONE, np.arange(0, buckets.edges[-1] + _DAY, _DAY))
        for part in query.parts(days):
            for gap in await read_gaps(cursor, days, part):
                marks.is_incomplete |= gap < ends
