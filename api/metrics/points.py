"""Points of an answer out of cells: gaps filled, earlier values beside them, a page of them, in order.

Belongs here: arithmetic over arrays. Does not belong here: reading cells (`repository`), JSON (`answers`).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from api.errors import BadRequest, invalid_parameter
from api.metrics.cursors import Place
from api.metrics.parameters import Fill, Order
from api.metrics.query import Frame
from api.metrics.values import UNBOUNDED, Cells, Numbers

Flags = npt.NDArray[np.bool_]


@dataclass(eq=False, slots=True)
class Points:
    """Points, in the order asked for.

    Attributes:
        cells: their buckets, series and values; NaN where nothing stands for a bucket without a value.
        is_filled: which stand for a bucket without a value.
        compared: earlier values, NaN where there is none; None if nothing is compared.
        compared_marks: 1 where one of these is a quantile without a bound; None if none is a quantile.
        counts: of events behind each; None if nobody asked.
        has_more: whether others follow.
    """

    cells: Cells
    is_filled: Flags
    compared: Numbers | None = None
    compared_marks: Numbers | None = None
    counts: npt.NDArray[np.int64] | None = None
    has_more: bool = False

    def __len__(self) -> int:
        return len(self.cells.values)

    @property
    def is_unbounded(self) -> Flags:
        """Which are quantiles without a bound, or stand for one."""
        return self._marked(self.cells.more.get(UNBOUNDED))

    @property
    def is_compared_unbounded(self) -> Flags:
        """Which are compared with a quantile without a bound."""
        return self._marked(self.compared_marks)

    def _marked(self, marks: Numbers | None) -> Flags:
        return np.zeros(len(self), np.bool_) if marks is None else marks == 1


def points_of(cells: Cells, frame: Frame, is_unknown: Flags, *, has_series: bool) -> Points:
    """The page of points that is asked for.

    Args:
        cells: every one that has a value, or with pages at least those of the page and one more.
        frame: the question.
        is_unknown: in which buckets no value does not mean zero.
        has_series: whether there are groups, and so none where there is nothing.

    Raises:
        BadRequest: there are too many.
    """
    ordered = cells.sorted()
    filled = np.zeros(len(ordered.values), np.bool_)
    if frame.fill is not Fill.NONE:
        ordered, filled = _filled(ordered, frame, is_unknown, has_series=has_series)
    if frame.order is Order.DESC:
        ordered, filled = ordered.where(np.s_[::-1]), filled[::-1]  # type: ignore[arg-type]
    begin = 0 if frame.after is None else _behind(ordered, frame, frame.after)
    until = len(filled) if frame.limit is None else begin + frame.limit
    if until - begin > frame.max_points:
        raise too_many(frame)
    page = slice(begin, until)
    return Points(ordered.where(page), filled[page], has_more=until < len(filled))  # type: ignore[arg-type]


def too_many(frame: Frame) -> BadRequest:
    """The error of an answer with more points than it may have."""
    return invalid_parameter(
        "group_by",
        f"there are more than {frame.max_points} points (analytics.query.max_points); shorten the range, "
        "ask for top, or for pages with limit",
    )


def with_earlier(points: Points, earlier: Cells, frame: Frame, is_unknown: Flags) -> Points:
    """The points with the values of the buckets that they are compared with, in some of which none is not zero."""
    assert frame.earlier is not None
    before, earlier_of = frame.earlier
    bucket = earlier_of[points.cells.bucket]
    has_bucket = (bucket >= 0) & (bucket < len(before))
    places = points.cells.names, points.cells.series, np.where(has_bucket, bucket, -1)
    found, marks = earlier.values_at(*places), None
    if UNBOUNDED in earlier.more:
        marks = replace(earlier, values=earlier.more[UNBOUNDED]).values_at(*places)
    if frame.fill is Fill.ZERO:
        has_no_zero = np.append(is_unknown, True)[np.where(has_bucket, bucket, -1)]
        found[~has_no_zero & np.isnan(found)] = 0.0
    return replace(points, compared=found, compared_marks=marks)


def with_counts(points: Points, counted: Cells) -> Points:
    """The points with how many events each is made of; those that nothing has landed for, and filled ones, of 0."""
    cells = points.cells
    found = counted.values_at(cells.names, cells.series, cells.bucket)
    return replace(points, counts=np.where(np.isnan(found), 0, found).astype(np.int64))


def _filled(cells: Cells, frame: Frame, is_unknown: Flags, *, has_series: bool) -> tuple[Cells, Flags]:
    """Every bucket that has begun, of every series that has a value somewhere."""
    names = cells.names
    if not names and not has_series:
        names = ["{}"]
    begun = max(frame.begun, int(cells.bucket.max(initial=-1)) + 1)
    if len(names) * begun > frame.max_points:
        raise too_many(frame)
    grid = np.full((begun, len(names)), np.nan)
    grid[cells.bucket, cells.series] = cells.values
    is_filled = ~np.isfinite(grid)
    grids = {"value": grid}
    for name, values in cells.more.items():
        grids[name] = np.full((begun, len(names)), np.nan)
        grids[name][cells.bucket, cells.series] = values
    for one in grids.values():
        if frame.fill is Fill.ZERO:
            one[is_filled & ~is_unknown[:begun, None]] = 0.0
        elif frame.fill is Fill.PREVIOUS and begun:
            rows = np.where(is_filled, 0, np.arange(begun)[:, None])
            newest = np.maximum.accumulate(rows, axis=0)
            one[:] = np.take_along_axis(one, newest, axis=0)
    bucket, series = np.indices(grid.shape)
    more = {name: one.ravel() for name, one in grids.items() if name != "value"}
    whole = Cells(names, bucket.ravel(), series.ravel(), grids["value"].ravel(), more, cells.is_estimated)
    return whole, is_filled.ravel()


def _behind(ordered: Cells, frame: Frame, after: Place) -> int:
    """How many cells are not behind a place."""
    bucket = int(np.searchsorted(frame.buckets.starts, after.at))
    is_a_start = bucket < len(frame.buckets) and frame.buckets.starts[bucket] == after.at
    names = [name.encode() for name in ordered.names]
    text = after.series.encode()
    if frame.order is Order.ASC:
        before = sum(name <= text for name in names) if is_a_start else 0
        passed = (ordered.bucket < bucket) | ((ordered.bucket == bucket) & (ordered.series < before))
    else:
        before = sum(name < text for name in names) if is_a_start else 0
        passed = (ordered.bucket > bucket) | ((ordered.bucket == bucket) & (ordered.series >= before))
    return int(passed.sum())


def place_of(points: Points, frame: Frame, position: int) -> Place:
    """Where a point stands."""
    cells = points.cells
    at = int(frame.buckets.starts[cells.bucket[position]])
    return Place(at, cells.names[cells.series[position]])
