"""Reads the cells of one query: which way, in which buckets, and which series stand by themselves.

Belongs here: that choice. Does not belong here: the ways themselves (`repository`), arithmetic (`folding`), what else
belongs to an answer (`reading`).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analytics_pipeline.events.times import micros
from analytics_pipeline.rollups.catalog import Aggregation
from analytics_pipeline.rollups.schema import LEVELS
from api.metrics import folding, measures, repository
from api.metrics.buckets import DAY, UTC_ZONE, Buckets, Part
from api.metrics.carried import LastValues, carried
from api.metrics.parameters import Fill
from api.metrics.points import Points, too_many
from api.metrics.query import MetricQuery
from api.metrics.repository import Cursor, RowsRead
from api.metrics.statements import Wanted
from api.metrics.values import NO_CELLS, Cells
from api.times import floor_time

_SECOND = 1_000_000
_VALUES_PER_POINT = 4
"""Values that may be read for each point that an answer may have, where several are put together to a point."""


class CellReader:
    """For one query, in one snapshot."""

    def __init__(self, cursor: Cursor, query: MetricQuery, rows: RowsRead) -> None:
        self._cursor = cursor
        self._query = query
        self._rows = rows
        self._named: list[str] | None = None
        self._has_states = measures.needs_states(query.aggregation)

    async def cells(self) -> Cells:
        """The cells of the buckets asked for; of a question with pages at least those of the page and one more."""
        query, frame = self._query, self._query.frame
        if query.series.is_carried:
            return await self._carried(frame.buckets, frame.begun)
        wanted = self._wanted(frame.buckets)
        if query.top is not None and not self._has_states and wanted.parts:
            self._named = await repository.read_ranking(self._cursor, wanted, query.top)
            wanted = wanted._replace(named=self._named)
        if frame.limit is not None and frame.fill is Fill.NONE and not self._is_merged(frame.buckets):
            wanted = wanted._replace(limit=frame.limit + 1, is_page=True, after=frame.after)
        return await self._read(wanted)

    async def earlier(self, points: Points) -> Cells:
        """The cells that these points are compared with, and others."""
        frame = self._query.frame
        assert frame.earlier is not None
        buckets, earlier_of = frame.earlier
        if self._query.series.is_carried:
            return await self._carried(buckets, len(buckets))
        places = earlier_of[points.cells.bucket]
        places = places[(places >= 0) & (places < len(buckets))]
        if not len(places):
            return NO_CELLS
        return await self._read(self._beside_points(self._wanted(buckets).within(places)))

    async def counts(self, points: Points) -> Cells:
        """How many events are in the cells of these points, and in others; of a ratio those it is divided by."""
        query = self._query
        bucket = points.cells.bucket
        if not len(bucket):
            return NO_CELLS
        series = replace(query.series, is_carried=False)
        counted = replace(query, aggregation=Aggregation.COUNT.value, series=series)
        wanted = self._beside_points(self._wanted(query.frame.buckets).within(bucket))._replace(query=counted)
        if not wanted.parts:
            return NO_CELLS
        cells = await repository.read_sums(self._cursor, wanted, self._rows)
        if len(cells.values) >= wanted.limit:
            raise too_many(query.frame)
        return cells

    def _beside_points(self, wanted: Wanted) -> Wanted:
        """Of the series of the points; in the first and the last bucket of a page are some that are on another page."""
        return wanted._replace(named=self._named, limit=self._most_values + 1)

    @property
    def _most_values(self) -> int:
        return self._query.frame.max_points * _VALUES_PER_POINT

    def _wanted(self, buckets: Buckets) -> Wanted:
        return Wanted(self._query, buckets, self._parts(buckets), self._query.frame.max_points + 1)

    def _parts(self, buckets: Buckets) -> Sequence[Part]:
        """Those that can be read: states of another kind than the metric has now cannot be."""
        metric = self._query.metric
        assert metric is not None
        parts = self._query.parts(buckets)
        return [part for part in parts if not self._has_states or part.served.kind == metric.kind.value]

    def _is_merged(self, buckets: Buckets) -> bool:
        """Whether values come of several states each, or of ones that no column tells."""
        query = self._query
        is_told = query.aggregation in (*measures.STORED_QUANTILES, Aggregation.DISTINCT.value)
        is_told = is_told or query.aggregation in measures.ENDS
        return self._has_states and (
            not is_told or query.series.is_added_up or buckets.is_composed or query.top is not None
        )

    async def _read(self, wanted: Wanted) -> Cells:
        if not wanted.parts:
            return NO_CELLS
        if not self._has_states:
            cells = await repository.read_sums(self._cursor, wanted, self._rows)
        elif self._query.aggregation in measures.ENDS:
            cells = await self._ends(wanted)
        elif self._is_merged(wanted.buckets):
            cells = await self._merged(wanted)
        else:
            cells = await repository.read_derived(self._cursor, wanted, self._rows)
        if not wanted.is_page and len(cells.values) >= wanted.limit:
            raise too_many(self._query.frame)
        return cells

    async def _merged(self, wanted: Wanted) -> Cells:
        query = self._query
        found = await repository.read_states(self._cursor, wanted._replace(named=None), self._rows)
        if query.top is not None and self._named is None:
            self._named = folding.highest_states(query, found, query.top)
        return folding.merged_states(query, found, self._named)

    async def _ends(self, wanted: Wanted) -> Cells:
        query, buckets = self._query, wanted.buckets
        if buckets.is_composed:
            fine = buckets.levels()
            cells = await self._parts_of_points(self._wanted(fine))
            cells = folding.of_zone(cells, query.aggregation, fine, buckets)
        else:
            cells = await repository.read_derived(self._cursor, wanted, self._rows)
        if query.aggregation != Aggregation.OHLC.value:
            return cells
        return folding.with_bounds(cells, await repository.read_sums(self._cursor, wanted, self._rows))

    async def _parts_of_points(self, wanted: Wanted) -> Cells:
        """Values of which points are made: all of them, as one that is left out would be missing in every point."""
        limit = self._most_values + 1
        cells = await repository.read_derived(self._cursor, wanted._replace(limit=limit), self._rows)
        if len(cells.values) >= limit:
            raise repository.too_much(self._most_values, "values")
        return cells

    async def _carried(self, buckets: Buckets, begun: int) -> Cells:
        ends = buckets.edges[1 : begun + 1]
        if not len(ends):
            return NO_CELLS
        query = self._query
        cells = carried(await self._last_values(buckets), ends, query.series.shown or ())
        if query.top is None or not cells.names:
            return cells
        if self._named is None:
            self._named = folding.highest_last(query, cells, query.top)
        return folding.added_up(query, cells, self._named)

    async def _last_values(self, buckets: Buckets) -> LastValues:
        """Of each series the last value before the range, by days and then in its first day, and those of buckets."""
        day = micros(floor_time(buckets.first, LEVELS[DAY]))
        days, first_day = _between(0, day, DAY), _between(day, int(buckets.edges[0]), buckets.level)
        names: list[str] = []
        series, at, values = [], [], []
        for some, newest in ((days, True), (first_day, True), (buckets.levels(), False)):
            wanted = self._wanted(some)._replace(newest=newest)
            if not wanted.parts:
                continue
            cells = await self._parts_of_points(wanted)
            series.append(cells.series + len(names))
            names += cells.names
            at.append(some.starts[cells.bucket])
            values.append(cells.values)
        if not names:
            return LastValues([], NO_CELLS.series, np.empty(0, np.int64), NO_CELLS.values)
        known = {name: place for place, name in enumerate(dict.fromkeys(names))}
        moved = np.array([known[name] for name in names], np.intp)
        return LastValues(
            list(known), moved[np.concatenate(series)], np.concatenate(at), np.concatenate(values)
        )


def _between(start: int, end: int, level: str) -> Buckets:
    """The buckets of a level between two of its edges, in µs."""
    width = LEVELS[level] * _SECOND
    return Buckets(level, level, UTC_ZONE, np.arange(start, end + width, width))
