"""What `/api/v1/metrics` is asked: the queries that its parameters mean.

Belongs here: turning a query string into `MetricQuery`s. Does not belong here: each part of it (`parameters`,
`buckets`, `measures`, `filters`, `selection`), answering it (`reading`), documented shapes (`schemas`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt

from analytics_pipeline.events.reach import EVERYTHING, Reach
from analytics_pipeline.events.times import EPOCH, micros
from analytics_pipeline.rollups.catalog import Aggregation, Catalog, Metric
from analytics_pipeline.rollups.schema import LEVELS
from api.cursors import other_question, range_of
from api.errors import invalid_parameter
from api.metrics import filters, measures
from api.metrics.buckets import (
    UTC_ZONE,
    Buckets,
    Compare,
    Kept,
    Part,
    buckets_of,
    compared_with,
    parts_of,
)
from api.metrics.cursors import Cursor, Place, read_cursor
from api.metrics.parameters import (
    AUTO,
    AUTO_POINTS,
    COMPARE,
    COUNTS,
    CURSOR,
    EXPLAIN,
    FILL,
    GROUP_BY,
    INTERVAL,
    LAST,
    LIMIT,
    MAX_POINTS,
    METRIC_NAME,
    MOST_METRICS,
    MOST_TOP,
    ORDER,
    PARAMETERS,
    TIME_ZONE,
    TOP,
    Fill,
    Order,
)
from api.metrics.parts import check_versions
from api.metrics.selection import Series, choose, read_group_by
from api.metrics.service import Served, always
from api.opaque import mark_of
from api.parameters import AFTER, END_TIME, START_TIME, Query
from api.times import format_time

_LONGEST_NAME = 520
_LONGEST_MEANT = 100
"""Characters of a name for which another is looked for: that takes time by their square."""
_LAST = re.compile(r"([1-9][0-9]{0,6})([smhdw])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """What all metrics of a question share.

    Attributes:
        start: start of the range, UTC.
        end: end of the range, UTC, not included.
        buckets: those whose start lies in it.
        begun: how many of them have begun; beyond these nothing is filled in or carried forward.
        over: how many of them are over.
        fill: what stands for a bucket without a value.
        compare: what a bucket is compared with, if anything.
        earlier: the buckets to compare with, and for each bucket the position of its own, -1 and less for none.
        order: of the points.
        limit: most points of a page, if there are pages.
        after: the page begins behind this.
        counts: whether to say how many events each value is made of.
        explain: whether to say what was read.
        max_points: most points that an answer may have.
        kept: from when on each level is kept; always, where it is not said.
    """

    start: datetime
    end: datetime
    buckets: Buckets
    begun: int
    over: int
    fill: Fill = Fill.NONE
    compare: Compare | None = None
    earlier: tuple[Buckets, npt.NDArray[np.intp]] | None = None
    order: Order = Order.ASC
    limit: int | None = None
    after: Place | None = None
    counts: bool = False
    explain: bool = False
    max_points: int = 50_000
    kept: Kept = field(default_factory=dict)

    def are_gone(self, buckets: Buckets) -> npt.NDArray[np.bool_]:
        """Of which buckets rows may be gone, so that no value does not mean that there was nothing."""
        return buckets.starts < micros(self.kept.get(buckets.level, EPOCH))


@dataclass(frozen=True, eq=False, slots=True)
class MetricQuery:
    """Points of one metric.

    Attributes:
        metric_name: as asked for.
        metric: its declaration, or None if the catalog has none of this name.
        aggregation: what a point is, in its one spelling.
        series: which stored series answer.
        served: the versions of the metric.
        top: how many series stand by themselves; None for all.
        frame: what it shares with others of the question.
        nearest: a name of the catalog that may have been meant, where it has none of this one.
    """

    metric_name: str
    metric: Metric | None
    aggregation: str
    series: Series
    served: tuple[Served, ...]
    top: int | None
    frame: Frame
    nearest: str | None = None

    def parts(self, buckets: Buckets) -> list[Part]:
        """These buckets, by the version that answers for them."""
        return parts_of(self.served, buckets)

    @property
    def answering(self) -> list[Served]:
        """The versions that answer for buckets of the question, or for those that they are compared with.

        Where last values are carried, those of all time before, too.
        """
        if self.series.is_carried:
            return [one for one in self.served if one.first < min(one.end, self.data_until)]
        earlier = self.frame.earlier
        buckets = (self.frame.buckets, *([earlier[0]] if earlier else []))
        return [part.served for each in buckets for part in self.parts(each)]

    def is_before_service(self, buckets: Buckets) -> npt.NDArray[np.bool_]:
        """Which buckets begin before their version was computed."""
        found = np.zeros(len(buckets), np.bool_)
        for part in self.parts(buckets):
            own = slice(part.begin, part.until)
            found[own] = buckets.starts[own] < micros(part.served.complete_from)
        return found

    def is_unknown(self, buckets: Buckets) -> npt.NDArray[np.bool_]:
        """In which buckets no value does not mean that there was nothing."""
        return self.frame.are_gone(buckets) | self.is_before_service(buckets)

    @property
    def data_from(self) -> datetime:
        """From when on events matter to the points."""
        if self.series.is_carried:
            return EPOCH
        earlier = self.frame.earlier
        return min(self.frame.start, earlier[0].first) if earlier else self.frame.start

    @property
    def data_until(self) -> datetime:
        """Until when events matter."""
        return max(self.frame.end, self.frame.buckets.end)

    @property
    def mark(self) -> bytes:
        """Of what its cursors belong to: not of what the key sees, the range or the page."""
        frame, series = self.frame, self.series
        return mark_of(
            self.metric_name, self.aggregation, frame.buckets.interval, frame.buckets.zone.key, str(frame.fill),
            frame.compare and str(frame.compare), str(frame.order), self.top, series.shown, sorted(series.filters),
        )  # fmt: skip

    @property
    def canonical(self) -> str:
        """One text for every way to ask the same."""
        frame, series = self.frame, self.series
        everywhere = [frame.buckets, *([frame.earlier[0]] if frame.earlier else [])]
        depends_on_now = series.is_carried or frame.fill is not Fill.NONE
        parts: list[object] = [
            self.metric_name, self.aggregation, frame.buckets.interval, frame.buckets.level, frame.buckets.zone.key,
            format_time(frame.start), format_time(frame.end), frame.begun if depends_on_now else "",
            frame.over if frame.buckets.is_composed else "", frame.fill,
            frame.compare or "", frame.order, frame.limit or "", frame.after or "", frame.counts,
            frame.explain, self.top or "", series.dimension_set, series.shown, series.filters, series.is_carried,
            *(part for buckets in everywhere for part in self.parts(buckets)),
            *(int(frame.are_gone(buckets).sum()) for buckets in everywhere),
        ]  # fmt: skip
        return "\n".join(("metrics", *map(str, parts)))


def read_queries(
    query_string: bytes,
    *,
    now: datetime,
    max_points: int,
    catalog: Catalog,
    versions_of: Callable[[Metric], tuple[Served, ...]] = lambda metric: (always(metric),),
    reach: Reach = EVERYTHING,
    kept: Kept | None = None,
) -> tuple[MetricQuery, ...]:
    """Understand a query string, by the metrics of a catalog and their versions, for who sees only `reach`.

    Args:
        query_string: as it stands in an address.
        now: the time that the question is asked.
        max_points: most points of an answer.
        catalog: of this moment.
        versions_of: the versions of a metric.
        reach: what may be seen.
        kept: from when on each level is kept; always, if it isn't given.

    Raises:
        Forbidden: no series of a metric is made of what may be seen alone.
        BadRequest: a parameter is missing, malformed, unknown to a metric, or asks for too many points.
    """
    query = Query(query_string, (*PARAMETERS, AFTER))
    names = _names(query, catalog)
    asked = measures.read_aggregation(query)
    group_by = read_group_by(query.text(GROUP_BY))
    found_filters = filters.read_filters(query)
    top = query.number(TOP, default=0, low=1, high=MOST_TOP) or None
    cursor = _cursor(query)
    if cursor is not None and len(names) > 1:
        raise invalid_parameter(CURSOR.name, "belongs to one metric: ask for that one alone")
    frame = _frame(query, now, max_points, kept or dict.fromkeys(LEVELS, EPOCH), cursor)
    if top is not None and group_by is None:
        raise invalid_parameter(TOP.name, "goes with group_by: it says which groups stand by themselves")
    found = []
    for name in names:
        selection = catalog.resolve(name)
        if selection is None:
            unknown = MetricQuery(name, None, asked or Aggregation.COUNT.value, Series(), (), top, frame)
            found.append(replace(unknown, nearest=_nearest(name, catalog, reach)))
            continue
        metric = selection.metric
        aggregation = measures.aggregation_of(metric, asked)
        series = choose(selection, aggregation, group_by, found_filters, reach)
        if top is not None and not series.is_carried:
            _check_rest(metric)
        one = MetricQuery(name, metric, aggregation, series, versions_of(metric), top, frame)
        check_versions(series.dimension_set, one.answering, reach)
        if cursor is not None and cursor.mark not in (None, one.mark):
            raise other_question()
        found.append(one)
    return tuple(found)


def _nearest(name: str, catalog: Catalog, reach: Reach) -> str | None:
    """Of what there is; to a key that sees a part of the events no names are told."""
    if not reach.is_everything:
        return None
    return next(iter(get_close_matches(name[:_LONGEST_MEANT], catalog.by_name, n=1, cutoff=0.8)), None)


def _check_rest(metric: Metric) -> None:
    if not metric.has_total:
        raise invalid_parameter(
            TOP.name, "series of this metric cannot be added up, so there is no rest of them"
        )


def _names(query: Query, catalog: Catalog) -> list[str]:
    texts = query.texts(METRIC_NAME, most=MOST_METRICS, limit=_LONGEST_NAME * MOST_METRICS)
    if not texts:
        raise invalid_parameter(METRIC_NAME.name, "is required", title=f"{METRIC_NAME.name} is required")
    names = list(dict.fromkeys(name for text in texts for name in _split(text, catalog)))
    if len(names) > MOST_METRICS:
        raise invalid_parameter(METRIC_NAME.name, f"names more than {MOST_METRICS} metrics")
    if any(len(name) > _LONGEST_NAME for name in names):
        raise invalid_parameter(METRIC_NAME.name, f"is longer than {_LONGEST_NAME} characters")
    return names


def _split(text: str, catalog: Catalog) -> list[str]:
    """Names with commas between; a comma inside an event type is none of these."""
    first, *rest = text.split(",")
    names = [first]
    for part in rest:
        if names[-1] in catalog.by_name or catalog.resolve(part) is not None:
            names.append(part)
        else:
            names[-1] = f"{names[-1]},{part}"
    return names


def _frame(query: Query, now: datetime, most: int, kept: Kept, cursor: Cursor | None) -> Frame:
    start, end = _range(query, now, cursor)
    zone = _zone(query)
    interval = query.choice(INTERVAL, (*LEVELS, AUTO)) or "1h"
    asked_points = query.number(MAX_POINTS, default=0, low=1, high=most)
    if interval == AUTO:
        interval = _auto(start, end, asked_points or min(AUTO_POINTS, most), kept)
    _check_count(start, end, interval, asked_points or most, is_asked=bool(asked_points))
    buckets = buckets_of(start, end, interval, zone, kept)
    compare = query.choice(COMPARE, list(Compare))
    fill = Fill(query.choice(FILL, list(Fill)) or Fill.NONE)
    limit = query.number(LIMIT, default=0, low=1, high=most) or None
    counts, explain = (query.number(one, default=0, low=0, high=1) == 1 for one in (COUNTS, EXPLAIN))
    return Frame(
        start,
        end,
        buckets,
        int(np.searchsorted(buckets.starts, micros(min(end, now)))),
        int(np.searchsorted(buckets.edges[1:], micros(now), side="right")),
        fill,
        None if compare is None else Compare(compare),
        None if compare is None else _earlier(buckets, Compare(compare), kept),
        Order(query.choice(ORDER, list(Order)) or Order.ASC),
        limit,
        None if cursor is None else cursor.place,
        counts,
        explain,
        most,
        kept,
    )


def _earlier(buckets: Buckets, compare: Compare, kept: Kept) -> tuple[Buckets, npt.NDArray[np.intp]]:
    try:
        return compared_with(buckets, compare, kept)
    except OverflowError:
        raise invalid_parameter(COMPARE.name, "there is no time so long ago") from None


def _range(query: Query, now: datetime, cursor: Cursor | None) -> tuple[datetime, datetime]:
    """The range of the cursor; else that asked for."""
    is_given = query.time(START_TIME) is not None or query.time(END_TIME) is not None
    last = query.text(LAST)
    if last is None:
        return query.range(now) if cursor is None else range_of(query, cursor.start, cursor.end)
    if is_given:
        raise invalid_parameter(LAST.name, "stands instead of start_time and end_time")
    match = _LAST.fullmatch(last)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if match is None or seconds > (now - EPOCH).total_seconds():
        raise invalid_parameter(LAST.name, "is written as 15m, 24h or 7d, and reaches back to 1970 at most")
    if cursor is None:
        return now - timedelta(seconds=seconds), now
    if cursor.end - cursor.start != timedelta(seconds=seconds):
        raise other_question()
    return cursor.start, cursor.end


def _cursor(query: Query) -> Cursor | None:
    text = query.text(CURSOR, limit=8192)
    try:
        return None if text is None else read_cursor(text)
    except ValueError as error:
        raise invalid_parameter(CURSOR.name, str(error)) from None


def _zone(query: Query) -> ZoneInfo:
    name = query.text(TIME_ZONE)
    if name is None or name.upper() in {"UTC", "ETC/UTC", "Z"}:
        return UTC_ZONE
    if name not in _known_zones():
        raise invalid_parameter(TIME_ZONE.name, "must be an IANA name, such as Europe/Berlin, or UTC")
    return ZoneInfo(name)


@cache
def _known_zones() -> frozenset[str]:
    """Read from files once."""
    return frozenset(available_timezones())


def _auto(start: datetime, end: datetime, most: int, kept: Kept) -> str:
    """The finest interval with so few buckets of which nothing is gone yet."""
    for interval, seconds in LEVELS.items():
        if (end - start) / timedelta(seconds=seconds) <= most and kept[interval] <= start:
            return interval
    return list(LEVELS)[-1]


def _check_count(start: datetime, end: datetime, interval: str, most: int, *, is_asked: bool) -> None:
    if (end - start) / timedelta(seconds=LEVELS[interval]) > most:
        limit = "max_points" if is_asked else "analytics.query.max_points"
        raise invalid_parameter(
            INTERVAL.name,
            f"the range has more than {most} buckets of this interval ({limit}); "
            "ask for a longer interval or a shorter range",
        )
