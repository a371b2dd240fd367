"""Reading cells: running the statements, and making arrays of what comes back.

Belongs here: one function for each way to read. Does not belong here: the statements (`statements`), which way is the
right one (`reading`), arithmetic (`values`).

Everything runs in one transaction of the caller's, and sees one snapshot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from psycopg import AsyncCursor

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Kind
from api.errors import BadRequest, invalid_parameter
from api.metrics import measures, statements
from api.metrics.buckets import Buckets, Times
from api.metrics.query import MetricQuery
from api.metrics.statements import Statement, Wanted
from api.metrics.values import NO_CELLS, Cells, Numbers, Positions, finite, from_states, from_sums, grouped

Cursor = AsyncCursor[Any]

_EPOCH_OF_POSTGRES = 946_684_800_000_000
"""µs from 1970 to 2000."""


@dataclass(slots=True)
class RowsRead:
    """How many rows an answer is made of."""

    settled: int = 0
    pending: int = 0


async def read_sums(cursor: Cursor, wanted: Wanted, rows: RowsRead) -> Cells:
    """Cells whose value follows from count, sum, min and max."""
    query = wanted.query
    assert query.metric is not None
    names, read, times, columns = await _packed(cursor, statements.sums(wanted), ">i8", ">f8", ">f8", ">f8")
    _note(rows, read)
    bucket, series = _places(wanted.buckets, times)
    joined = [np.concatenate(column).astype(np.float64) for column in columns] or [np.empty(0)] * 4
    seconds = wanted.buckets.seconds[bucket]
    by_sum = measures.sums_up(query.metric)
    cells = Cells(names, bucket, series, from_sums(query.aggregation, by_sum, joined, seconds))
    if query.aggregation == "ohlc":
        cells.more = {"high": joined[3], "low": joined[2]}
        cells.values = joined[2]
    return finite(cells)


async def read_ranking(cursor: Cursor, wanted: Wanted, top: int) -> list[str]:
    """The series with the highest values over all cells that are wanted."""
    statement, parameters = statements.ranked(wanted, top)
    return [name for [name] in await (await cursor.execute(statement, parameters)).fetchall()]


async def read_derived(cursor: Cursor, wanted: Wanted, rows: RowsRead) -> Cells:
    """Cells of one series each, whose value is kept beside the state; with what is pending it is read from states.

    Of `ohlc` they have `open` and `close` as well.

    Raises:
        BadRequest: there are too many states to be merged.
    """
    query = wanted.query
    assert query.metric is not None
    column = query.aggregation
    names, read, times, columns = await _packed(cursor, statements.derived(wanted), ">f8", ">f8")
    _note(rows, read)
    bucket, series = _places(wanted.buckets, times)
    one, other = (
        [np.concatenate(column).astype(np.float64) for column in columns]
        if columns
        else [np.empty(0), np.empty(0)]
    )
    settled = Cells(names, bucket, series, one)
    most = most_states(query)
    statement = statements.changed(wanted._replace(limit=most + 1))
    changed = await _states(cursor, statement, wanted.buckets, rows, most)
    if column in measures.ENDS:
        settled.more = {"open": one, "close": other}
        found = [states.ends_values(states.ends_merge(some)) for some in changed.grouped]
        first, last = (np.array([pair[end] for pair in found], np.float64) for end in (0, 1))
        more = {"open": first, "close": last}
        cells = joined(settled, Cells(changed.names, changed.bucket, changed.series, first, more))
        cells.values = cells.more["open" if column == "first" else "close"]
        if column != "ohlc":
            cells.more = {}
        return finite(cells)
    values, is_estimated = from_states(column, changed.found, changed.groups, len(changed.bucket))
    settled.is_estimated = bool((other > 0).any())
    newer = Cells(changed.names, changed.bucket, changed.series, values, is_estimated=is_estimated)
    return finite(joined(settled, newer))


class StateCells(NamedTuple):
    """Cells and their states: `found[i]` belongs to the cell `groups[i]`, of `bucket` and `series`."""

    names: list[str]
    bucket: Positions
    series: Positions
    found: list[bytes]
    groups: Positions

    @property
    def grouped(self) -> list[list[bytes]]:
        """The states of each cell."""
        return grouped(self.found, self.groups, len(self.bucket))


async def read_states(cursor: Cursor, wanted: Wanted, rows: RowsRead) -> StateCells:
    """Cells and all their states.

    Raises:
        BadRequest: there are too many to be merged.
    """
    most = most_states(wanted.query)
    statement = statements.merged(wanted._replace(limit=most + 1))
    return await _states(cursor, statement, wanted.buckets, rows, most)


def most_states(query: MetricQuery) -> int:
    """How many states a question may have merged: fewer of sets, which are large, and more of ends, which are small."""
    assert query.metric is not None
    most = query.frame.max_points
    return {Kind.DISTINCT: most // 4, Kind.ENDS: most * 4}.get(query.metric.kind, most)


def too_much(most: int, what: str) -> BadRequest:
    """The error of a question for which more would have to be read than may be held at once."""
    return invalid_parameter(
        "interval",
        f"more than {most} {what} would have to be put together (analytics.query.max_points); ask for a longer "
        "interval or a shorter range",
    )


def positions(buckets: Buckets, times: Times) -> Positions:
    """In which bucket each time is."""
    return np.searchsorted(buckets.starts, times, side="right") - 1


def joined(settled: Cells, newer: Cells) -> Cells:
    """Both, and of cells that are in both the newer."""
    places = {name: place for place, name in enumerate(settled.names)}
    names = [*settled.names, *(name for name in newer.names if name not in places)]
    places = {name: place for place, name in enumerate(names)}
    moved = np.array([places[name] for name in newer.names], np.intp)
    there = Cells(names, settled.bucket, settled.series, settled.values, settled.more, settled.is_estimated)
    series = moved[newer.series] if len(moved) else newer.series
    here = Cells(names, newer.bucket, series, newer.values, newer.more, newer.is_estimated)
    kept = there.where(~np.isin(there.codes(), here.codes()))
    return Cells(
        names,
        np.concatenate([kept.bucket, here.bucket]),
        np.concatenate([kept.series, here.series]),
        np.concatenate([kept.values, here.values]),
        {name: np.concatenate([kept.more[name], here.more[name]]) for name in kept.more},
        there.is_estimated or here.is_estimated,
    )


async def _packed(
    cursor: Cursor, statement: Statement, *kinds: str
) -> tuple[list[str], tuple[int, int], list[Times], list[list[Numbers]]]:
    """Names of series, rows read and pending ones, times of each, and columns of each, of these numpy types."""
    rows = await (await cursor.execute(*statement)).fetchall()
    read = sum(row[1] for row in rows), sum(row[2] for row in rows)
    columns = [
        [np.frombuffer(row[4 + number], kind) for row in rows] for number, kind in enumerate(kinds) if rows
    ]
    return [row[0] for row in rows], read, [times_of(row[3]) for row in rows], columns


def _note(rows: RowsRead, read: tuple[int, int]) -> None:
    rows.settled += read[0] - read[1]
    rows.pending += read[1]


async def _states(
    cursor: Cursor, statement: Statement, buckets: Buckets, rows: RowsRead, most: int
) -> StateCells:
    found = await (await cursor.execute(*statement)).fetchall()
    if len(found) > most:
        raise too_much(most, "states")
    if not found:
        return StateCells([], NO_CELLS.bucket, NO_CELLS.series, [], NO_CELLS.bucket)
    texts, times, packed, pending = zip(*found, strict=True)
    _note(rows, (len(found), sum(pending)))
    places: dict[str, int] = {}
    series = np.array([places.setdefault(text, len(places)) for text in texts], np.intp)
    bucket = positions(buckets, times_of(b"".join(times)))
    codes, groups = np.unique(bucket * len(places) + series, return_inverse=True)
    return StateCells(list(places), codes // len(places), codes % len(places), list(packed), groups)


def _places(buckets: Buckets, times: Sequence[Times]) -> tuple[Positions, Positions]:
    """The bucket and the series of each cell, of times by series."""
    if not times:
        return NO_CELLS.bucket, NO_CELLS.series
    series = np.repeat(np.arange(len(times)), [len(some) for some in times])
    return positions(buckets, np.concatenate(times)), series


def times_of(packed: bytes) -> Times:
    """Of `timestamptz_send`, one after the other, in µs since 1970."""
    return np.frombuffer(packed, ">i8").astype(np.int64) + _EPOCH_OF_POSTGRES
