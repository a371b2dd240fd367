"""The buckets of a question: their edges in any time zone, the level that is read for them, those to compare with.

Belongs here: times and levels. Does not belong here: what is in a bucket (`repository`), parameters (`query`).

A bucket is asked for if its start lies in the range; it is never cut. Edges are µs since 1970, UTC: bucket `i` is
`[edges[i], edges[i + 1])`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from analytics_pipeline.events.times import EPOCH, from_micros, micros
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.settings import Retention
from api.errors import invalid_parameter
from api.metrics.service import Served
from api.times import ceil_time, floor_time

Times = npt.NDArray[np.int64]
Kept = Mapping[str, datetime]
"""Per level, from when on its rows are kept."""

DAY = "1d"
UTC_ZONE = ZoneInfo("UTC")
_SECOND = 1_000_000
_COMPOSED_OF = ("1h", "15m")
"""Levels of which buckets of other zones are made, the one with fewer rows first."""
_LONGEST_SHIFT = timedelta(days=2)


class Compare(StrEnum):
    """What a bucket is compared with."""

    PREVIOUS = "previous"
    """As many buckets before as there are."""
    DAY = "1d"
    WEEK = "7d"


@dataclass(frozen=True, eq=False, slots=True)
class Buckets:
    """Buckets without holes.

    Attributes:
        interval: as asked for, a key of `LEVELS`.
        level: whose rows are read; several to a bucket where `is_composed`.
        zone: in which days, and hours, begin.
        edges: one more than there are buckets; ascending.
    """

    interval: str
    level: str
    zone: ZoneInfo
    edges: Times
    is_composed: bool = False

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def starts(self) -> Times:
        """Of the buckets."""
        return self.edges[:-1]

    @property
    def first(self) -> datetime:
        """Start of the first bucket; where there is none, where it would be."""
        return moment(self.edges[0])

    @property
    def end(self) -> datetime:
        """End of the last bucket."""
        return moment(self.edges[-1])

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """How long each is: days of a zone may have 23 or 25 hours."""
        return np.diff(self.edges) / _SECOND

    def levels(self) -> "Buckets":
        """The buckets of the level that these are made of."""
        width = LEVELS[self.level] * _SECOND
        edges = np.arange(self.edges[0], self.edges[-1] + width, width)
        return Buckets(self.level, self.level, UTC_ZONE, edges)


@dataclass(frozen=True, slots=True)
class Part:
    """The buckets `[begin, until)` by position, and the version that answers for them."""

    served: Served
    begin: int
    until: int


def parts_of(served: Iterable[Served], buckets: Buckets) -> list[Part]:
    """The buckets by version, oldest first; each bucket is in one of them."""
    found = []
    for one in served:
        begin, until = np.searchsorted(buckets.starts, [micros(one.first), micros(one.end)])
        if begin < until:
            found.append(Part(one, int(begin), int(until)))
    return sorted(found, key=lambda part: part.begin)


def kept_since(retention: Retention, now: datetime) -> dict[str, datetime]:
    """From when on the rows of each level are kept for sure: whole UTC days."""
    kept = (
        retention.minute_aggregates,
        retention.five_minute_aggregates,
        retention.fifteen_minute_aggregates,
        retention.hourly_aggregates,
        retention.daily_aggregates,
    )
    return {level: floor_time(now - age, LEVELS[DAY]) for level, age in zip(LEVELS, kept, strict=True)}


def moment(at: np.int64 | int) -> datetime:
    """The opposite of `micros`, also of an element of `Times`."""
    return from_micros(int(at))


def buckets_of(start: datetime, end: datetime, interval: str, zone: ZoneInfo, kept: Kept) -> Buckets:
    """The buckets whose start lies in `[start, end)`.

    Raises:
        BadRequest: buckets of this zone cannot be made of what is kept.
    """
    width = LEVELS[interval]
    if zone.key == UTC_ZONE.key or (interval != DAY and _is_aligned(start, end, zone, width)):
        first, until = micros(ceil_time(start, width)), micros(ceil_time(end, width))
        edges = np.arange(first, until + width * _SECOND, width * _SECOND)
        return Buckets(interval, interval, zone, edges)
    edges = _days(start, end, zone) if interval == DAY else _clock_starts(start, end, zone, width)
    if len(edges) < 2:
        return Buckets(interval, interval, zone, np.array([micros(start)]))
    if not (edges % (width * _SECOND)).any() and not (np.diff(edges) != width * _SECOND).any():
        return Buckets(interval, interval, zone, edges)
    return Buckets(interval, _level(edges, kept), zone, edges, True)


def _level(edges: Times, kept: Kept) -> str:
    """The level with the fewest rows of which these buckets can be made.

    Raises:
        BadRequest: its rows are gone, or no level has edges there.
    """
    for level in _COMPOSED_OF:
        if not (edges % (LEVELS[level] * _SECOND)).any():
            if moment(edges[0]) >= kept[level]:
                return level
            reason = (
                "this zone's offset is no whole hour, so its buckets are made of 15m buckets"
                if level == "15m"
                else "buckets of a zone are made of 1h buckets"
            )
            raise invalid_parameter(
                "time_zone",
                f"{reason}, which are kept since {kept[level]:%Y-%m-%d}; ask for a later start, or for UTC",
            )
    raise invalid_parameter(
        "time_zone", "this zone was off by minutes then that are no quarter of an hour; ask for a later start"
    )


def _is_aligned(start: datetime, end: datetime, zone: ZoneInfo, width: int) -> bool:
    """Whether buckets of UTC are buckets of the zone, in the whole range."""
    return not any(offset % width for _, offset in _offsets(start, end, zone))


def _offsets(start: datetime, end: datetime, zone: ZoneInfo) -> list[tuple[datetime, int]]:
    """The zone's offsets in seconds, each with the time from which on it holds; no offset lasts less than a day."""
    found = [(start, _offset(start, zone))]
    at, until = start, max(start, end) + _LONGEST_SHIFT
    while at < until:
        following = at + timedelta(days=1)
        if _offset(following, zone) != found[-1][1]:
            low, high = at, following
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                low, high = (middle, high) if _offset(middle, zone) == found[-1][1] else (low, middle)
            change = high.replace(microsecond=0)
            found.append((change, _offset(change, zone)))
        at = following
    return found


def _offset(at: datetime, zone: ZoneInfo) -> int:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds())


def _clock_starts(start: datetime, end: datetime, zone: ZoneInfo, width: int) -> Times:
    """The moments in the range when the zone's clock shows a multiple of so many seconds, and the next one after it."""
    changes = _offsets(start, end, zone)
    found = []
    for (begin, offset), until in zip(
        changes, [*(at for at, _ in changes[1:]), end + _LONGEST_SHIFT], strict=True
    ):
        shift = timedelta(seconds=offset)
        first = ceil_time(begin + shift, width) - shift
        found.append(np.arange(micros(first), micros(until), width * _SECOND))
    starts = np.concatenate(found)
    return _with_next(starts, start, end)


def _days(start: datetime, end: datetime, zone: ZoneInfo) -> Times:
    """Midnights of the zone in the range, and the next one after it; a day that the zone left out has none."""
    first = start.astimezone(zone).date()
    count = (end.astimezone(zone).date() - first).days + 3
    midnights = [micros(_midnight(first + timedelta(days=number), zone)) for number in range(count)]
    return _with_next(np.unique(np.array(midnights, np.int64)), start, end)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins; where the clock skips midnight, the moment at which it does."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _with_next(starts: Times, start: datetime, end: datetime) -> Times:
    begin, until = np.searchsorted(starts, [micros(start), micros(end)])
    return starts[begin : until + 1]


def compared_with(buckets: Buckets, compare: Compare, kept: Kept) -> tuple[Buckets, npt.NDArray[np.intp]]:
    """Earlier buckets, and for each bucket the position of the one that it is compared with.

    A day, or seven, earlier is the same time of the zone's clock, and the day before the day.

    Raises:
        BadRequest: earlier buckets of this zone cannot be made of what is kept.
    """
    count = len(buckets)
    if compare is Compare.PREVIOUS:
        if buckets.interval == DAY and count:
            first = buckets.first.astimezone(buckets.zone).date()
            begin = _midnight(first - timedelta(days=count), buckets.zone)
            earlier = buckets_of(begin, buckets.first, DAY, buckets.zone, kept)
            return earlier, np.arange(count) - (count - len(earlier))
        return _moved(buckets, buckets.edges - (buckets.edges[-1] - buckets.edges[0])), np.arange(count)
    days = timedelta(days=1 if compare is Compare.DAY else 7)
    if buckets.interval == DAY and count:
        starts = [moment(at).astimezone(buckets.zone).date() - days for at in buckets.edges]
        begin, until = _midnight(starts[0], buckets.zone), _midnight(starts[-1], buckets.zone)
        earlier = buckets_of(begin, until, DAY, buckets.zone, kept)
        wanted = [micros(_midnight(day, buckets.zone)) for day in starts[:-1]]
        return earlier, np.searchsorted(earlier.starts, wanted)
    shifted = buckets.edges - micros(EPOCH + days)
    if not count:
        return _moved(buckets, shifted), np.arange(count)
    change = _clock_change(buckets, days)
    if buckets.is_composed and not change.any():
        return _moved(buckets, shifted), np.arange(count)
    wanted_times = shifted[:-1] + change
    width = LEVELS[buckets.interval] * _SECOND
    if (
        buckets.is_composed or (wanted_times % width).any()
    ):  # of a zone that is, or was, off by a part of an hour
        last = moment(wanted_times.max()) + timedelta(seconds=1)
        earlier = buckets_of(moment(wanted_times.min()), last, buckets.interval, buckets.zone, kept)
        position = np.searchsorted(earlier.starts, wanted_times)
        is_there = np.append(earlier.starts, -1)[position] == wanted_times
        return earlier, np.where(is_there, position, -1)
    edges = np.arange(wanted_times.min(), wanted_times.max() + 2 * width, width)
    return _moved(buckets, edges), (wanted_times - edges[0]) // width


def _moved(buckets: Buckets, edges: Times) -> Buckets:
    return Buckets(buckets.interval, buckets.level, buckets.zone, edges, buckets.is_composed)


def _clock_change(buckets: Buckets, days: timedelta) -> Times:
    """How much later than exactly so many days before the clock showed the same, for each bucket; rarely not 0."""
    offsets = _offsets(buckets.first - days - _LONGEST_SHIFT, buckets.end, buckets.zone)
    times = np.array([micros(at) for at, _ in offsets], np.int64)
    values = np.array([offset * _SECOND for _, offset in offsets], np.int64)

    def at(moments: Times) -> Times:
        found: Times = values[np.searchsorted(times, moments, side="right") - 1]
        return found

    before = buckets.starts - micros(EPOCH + days)
    return at(buckets.starts) - at(before)
