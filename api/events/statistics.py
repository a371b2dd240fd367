"""What counts of events are asked for: a range, by type, and per bucket if an interval is given.

Belongs here: reading the query string, and cutting a range into buckets that are counted already and the rest.
Does not belong here: SQL (`repository`), documented shapes (`schemas`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from analytics_pipeline.events.reach import EVERYTHING, Reach
from analytics_pipeline.rollups.schema import LEVELS
from api.errors import Forbidden, invalid_parameter
from api.parameters import AFTER, END_TIME, START_TIME, Parameter, Query
from api.times import ceil_time, floor_time, format_time

INTERVAL = Parameter(
    "interval",
    "Also count per bucket of this width, in UTC. Default: the whole range alone.",
    "1h",
    (("type", "string"), ("enum", list(LEVELS))),
)
PARAMETERS = (START_TIME, END_TIME, INTERVAL)
_COARSE_TO_FINE = ("1d", "1h", "1m")


@dataclass(frozen=True, slots=True)
class Tile:
    """Whole buckets of one level: `[start, end)`."""

    interval: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Statistics:
    """A range to count events in, to the microsecond; with an interval, per bucket of that level."""

    start: datetime
    end: datetime
    reach: Reach = EVERYTHING
    interval: str | None = None

    @property
    def whole(self) -> tuple[datetime, datetime]:
        """The whole minutes of the range; empty (equal times) if it has none."""
        first, last = ceil_time(self.start, 60), floor_time(self.end, 60)
        return (first, last) if first < last else (self.start, self.start)

    @property
    def cuts(self) -> tuple[tuple[datetime, datetime], tuple[datetime, datetime]]:
        """The cut minutes at both ends, to be counted from raw events."""
        first, last = self.whole
        if first == last:
            return (self.start, self.end), (self.end, self.end)
        return (self.start, first), (last, self.end)

    @property
    def levels(self) -> tuple[tuple[str, int], ...]:
        """The levels whose buckets may be added up, and their seconds: none is wider than the interval."""
        widest = LEVELS[self.interval or "1d"]
        names = (self.interval or "1d", *_COARSE_TO_FINE)
        return tuple((name, LEVELS[name]) for name in dict.fromkeys(names) if LEVELS[name] <= widest)

    def is_partly_gone(self, kept: Mapping[str, datetime], raw_kept: datetime) -> bool:
        """Whether something that is counted may be deleted.

        Args:
            kept: from when on the buckets of each level are kept.
            raw_kept: from when on events are kept.
        """
        is_raw_gone = any(start < end and start < raw_kept for start, end in self.cuts)
        return is_raw_gone or any(
            tile.start < kept[tile.interval] for tile in tiles(*self.whole, self.levels)
        )

    @property
    def canonical(self) -> str:
        """One text for every way to ask the same."""
        text = f"stats\n{format_time(self.start)}\n{format_time(self.end)}"
        return text if self.interval is None else f"{text}\n{self.interval}"


def read_statistics(
    query_string: bytes, *, now: datetime, max_points: int, reach: Reach = EVERYTHING
) -> Statistics:
    """Understand a query string, for who sees only `reach`.

    Raises:
        BadRequest: a parameter is malformed, or the range has more than `max_points` buckets.
        Forbidden: events of a type are not counted by what may be seen.
    """
    if reach.dimensions:
        names = ", ".join(name for name, _ in reach.dimensions)
        raise Forbidden(
            f"Events of a type are counted together, not by {names}, by which the key sees them; ask for metrics that "
            "are kept by it, or for the events themselves."
        )
    query = Query(query_string, (*PARAMETERS, AFTER))
    interval = query.choice(INTERVAL, tuple(LEVELS))
    start, end = query.range(now)
    if interval is not None and (end - start) / timedelta(seconds=LEVELS[interval]) > max_points:
        raise too_many(max_points, "buckets of this interval")
    return Statistics(start, end, reach, interval)


def too_many(max_points: int, what: str) -> Exception:
    """The range has more than may be answered at once."""
    return invalid_parameter(
        INTERVAL.name,
        f"the range has more than {max_points} {what} (analytics.query.max_points); ask for a longer interval or a "
        "shorter range",
    )


def tiles(start: datetime, end: datetime, levels: tuple[tuple[str, int], ...]) -> list[Tile]:
    """Whole minutes, as few buckets as possible: wide ones where they are whole, finer ones at the ends.

    Args:
        start: start of a minute.
        end: start of a minute.
        levels: names and seconds, the widest first, minutes last.
    """
    if start >= end:
        return []
    (interval, seconds), *finer = levels
    first, last = ceil_time(start, seconds), floor_time(end, seconds)
    if first >= last:
        return tiles(start, end, tuple(finer)) if finer else []
    middle = [Tile(interval, first, last)]
    if not finer:
        return middle
    return tiles(start, first, tuple(finer)) + middle + tiles(last, end, tuple(finer))
