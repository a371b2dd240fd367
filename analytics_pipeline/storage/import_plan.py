"""What an import would move: which days of the original's history, and what has to be left.

Belongs here: the questions to both databases, and the refusals. Does not belong here: moving a day
(`storage.import_runs`), words of a terminal (`cli.import_history`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.import_definitions import Verdict, judge
from analytics_pipeline.storage.original import Original
from analytics_pipeline.storage.retention import raw_floor

SKEW = timedelta(minutes=1)
"""How far the original's clock may be from ours."""
_DAY = timedelta(days=1)

_CAUGHT_UP = """
SELECT count(*), count(*) FILTER (WHERE caught_up_at IS NULL), min(caught_up_at)
FROM ingest_offsets WHERE NOT is_retired
"""


@dataclass(frozen=True)
class Plan:
    """What is to be moved.

    Attributes:
        origin: database, host and port of the original's database.
        first: start of the first UTC day.
        end: the moment behind the last.
        horizon: events that reached the original from then on are left for another import, because ingest may not
            have landed them from Kafka yet: nothing would tell that they are the same.
        days: those with events, oldest first.
        earlier: events before `first`, which are left.
        later: events from `end` on, which are left.
        aggregates: rows of their `metric_aggregations` from before the first day, which nothing here can follow.
        definitions: their custom event definitions, judged.
    """

    origin: str
    first: datetime
    end: datetime
    horizon: datetime
    days: list[date]
    earlier: int
    later: int
    aggregates: int
    definitions: list[Verdict]


def plan(
    connection: Connection,
    original: Original,
    settings: Settings,
    *,
    first: date | None,
    end: date | None,
    now: datetime,
) -> Plan:
    """Look at both databases; nothing is changed.

    Args:
        connection: an autocommit connection to our database.
        original: theirs.
        settings: retention, and where ingest begins.
        first: the first UTC day; None for their first.
        end: the day behind the last; None for tomorrow.
        now: the time.

    Raises:
        ConfigurationError: what is asked for cannot be moved; the sentence says what to do.
    """
    horizon = _horizon(connection, settings, now)
    tomorrow = _start(now.astimezone(UTC).date()) + _DAY
    until = min(_start(end), tomorrow) if end is not None else tomorrow
    line = _line(connection, settings, now)
    begin = _start(first) if first is not None else line
    if begin >= until:
        raise ConfigurationError(
            f"--from {begin:%Y-%m-%d} is not before --to {until:%Y-%m-%d}: give an earlier --from"
        )
    earlier, later, earliest = original.outside(begin, until)
    if begin < line or (first is None and earlier):
        _refuse_old(begin if first is not None else earliest, line, settings, now)
    days = list(_days(original, begin, until))
    verdicts = judge(connection, original.definitions()) if settings.custom_events.enabled else []
    beginning = _start(days[0]) if days else begin
    return Plan(
        original.name,
        begin,
        until,
        horizon,
        days,
        earlier,
        later,
        original.aggregates_before(beginning),
        verdicts,
    )


def _days(original: Original, first: datetime, end: datetime) -> Iterator[date]:
    at = first
    while at < end and (day := original.next_day(at, end)) is not None:
        yield day
        at = _start(day) + _DAY


def _horizon(connection: Connection, settings: Settings, now: datetime) -> datetime:
    row = connection.execute(_CAUGHT_UP).fetchone()
    assert row is not None
    partitions, behind, caught_up_at = row
    if not partitions:
        if settings.kafka.enabled and settings.kafka.auto_offset_reset == "earliest":
            raise ConfigurationError(
                "ingest has not read from Kafka yet and would begin at its oldest message, which the original has "
                "stored, too: start ingest and let it catch up, then import; or set kafka.auto_offset_reset: latest"
            )
        return now
    if behind:
        raise ConfigurationError(
            f"ingest has not caught up with Kafka in {behind} of {partitions} partitions (`analytics offsets show`): "
            "what it still has to land could not be told from the original's history; import when it has"
        )
    return min(now, caught_up_at) - SKEW  # type: ignore[no-any-return]


def _line(connection: Connection, settings: Settings, now: datetime) -> datetime:
    """The start of the first UTC day that may still land."""
    return max(Limits.of(settings).oldest(now), raw_floor(connection))


def _refuse_old(begin: datetime | str | None, line: datetime, settings: Settings, now: datetime) -> None:
    earliest = begin if isinstance(begin, datetime) else _start(date.fromisoformat(begin)) if begin else None
    shown = f"{earliest:%Y-%m-%d}" if earliest else "the beginning of time"
    needed = f"{(now - earliest).days + 1}d" if earliest else "longer"
    if Limits.of(settings).oldest(now) < line:
        way = (
            f"this database has let go of all days before {line:%Y-%m-%d}, which never comes back: make another with "
            f"analytics.retention.raw_events at {needed} from its first `analytics migrate` on"
        )
    else:
        way = (
            f"make a database with analytics.retention.raw_events at {needed} from its first `analytics migrate` on "
            "(the line never goes back), and lower it when their rollups are made"
        )
    raise ConfigurationError(
        f"raw events are kept from {line:%Y-%m-%d} on, theirs begin on {shown}: {way}; or leave the older ones with "
        f"--from {line:%Y-%m-%d}"
    )


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
