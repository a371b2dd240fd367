"""The check that recomputes: every metric of some hours, from raw events, against what is served.

Belongs here: which hours, and judging. Does not belong here: the comparison (`storage.recompute`,
`storage.spot_check`, `storage.days`).
"""

from datetime import datetime, timedelta
from typing import NamedTuple

import dagster as dg

from analytics_pipeline.defs.mistakes import not_retried
from analytics_pipeline.defs.ranges import Range, hours_of
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.reports import Preview
from analytics_pipeline.defs.rollups.specs import KEYS
from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups.catalog import REGISTER_ID
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage import books
from analytics_pipeline.storage.backfill import raw_begin
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.days import compare_day
from analytics_pipeline.storage.metric_versions import complete_in, eras
from analytics_pipeline.storage.recompute import RecomputeResult, recompute_hour
from analytics_pipeline.storage.spot_check import compare_minutes

MOST_EVENTS = 2_000_000
"""That a sample reads, so that the check costs seconds; a range that is asked for has no limit."""
_TURN = timedelta(minutes=10)
_HOUR = timedelta(hours=1)
_NAMES = 5


class Piece(NamedTuple):
    """What is compared with raw events: an hour, or some of its minutes."""

    first: datetime
    last: datetime

    @property
    def is_hour(self) -> bool:
        """Whether it is a whole one."""
        return self.last - self.first == _HOUR


@dg.asset_check(
    asset=KEYS["1h"],
    name="every_metric_equals_raw",
    description=(
        "Counts, sums, states and set hash of every metric at all levels, recomputed from raw events: of one closed "
        "hour, each in its turn, or of the range in run config. Of an hour with more than two million events some "
        "minutes, another part each time, and its other levels against all its minutes. 1d of each day of it against "
        "the 24 hours of the day added up. Metrics that wait for a backfill there, or that no ingest process "
        "counts yet, are left out. Writes nothing."
    ),
)
def every_metric_equals_raw(
    context: dg.AssetCheckExecutionContext, config: Range, pipeline: Pipeline
) -> dg.AssetCheckResult:
    """Compare piece by piece; a difference is an error of the rollups."""
    report = Preview()
    with not_retried(), pipeline.connection("checks") as connection:
        pieces = chosen_pieces(connection, config, pipeline.now())
        for piece in pieces:
            report.add(_compared(connection, pipeline, piece, context.run.run_id))
        unknown = _not_deployed(connection, pipeline)
        days = sorted({piece.first.replace(hour=0, minute=0) for piece in pieces})
        for day in days:
            report.add(_compared_day(connection, pipeline, day))
    counts = {level: report.metadata(level)["differences"] for level in LEVELS}
    return dg.AssetCheckResult(
        passed=all(not count.value for count in counts.values()),
        severity=dg.AssetCheckSeverity.ERROR,
        description=_left_out(unknown),
        metadata={
            "metrics left out": len(unknown),
            **report.metadata(*LEVELS),
            **{f"differences at {level}": count for level, count in counts.items()},
            "minutes": sum(int((piece.last - piece.first).total_seconds() // 60) for piece in pieces),
            "days": len(days),
            "1d is compared with": "the 24 hours of its day at 1h, added up, of one moment",
            "from": dg.MetadataValue.timestamp(pieces[0].first) if pieces else "no hour is closed yet",
        },
    )


def _not_deployed(connection: Connection, pipeline: Pipeline) -> list[str]:
    """A run imports the checkout anew, so it may know metrics that no ingest process has started with."""
    catalog = pipeline.catalog(connection)
    registered = eras(connection, catalog.by_id)
    return sorted(metric.name for metric in catalog.metrics if metric.metric_id not in registered)


def _left_out(names: list[str]) -> str | None:
    if not names:
        return None
    shown = ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")
    return f"Left out, because no ingest process has started with their present definition: {shown}."


def _compared(connection: Connection, pipeline: Pipeline, piece: Piece, run_id: str) -> RecomputeResult:
    catalog = pipeline.catalog(connection)
    hour = piece.first.replace(minute=0)
    ids = [*complete_in(connection, catalog.by_id, hour), REGISTER_ID]
    if not piece.is_hour:
        return compare_minutes(pipeline.conninfo, *piece, catalog=catalog, metric_ids=ids)
    return recompute_hour(
        pipeline.conninfo, hour, run_id=run_id, catalog=catalog, metric_ids=ids, write=False
    )


def _compared_day(connection: Connection, pipeline: Pipeline, day: datetime) -> RecomputeResult:
    """Metrics that wait for a backfill too: whatever there is of them, a day is what its hours are."""
    catalog = pipeline.catalog(connection)
    return compare_day(pipeline.conninfo, day, catalog=catalog, metric_ids=[*catalog.by_id, REGISTER_ID])


def chosen_pieces(
    connection: Connection, config: Range, now: datetime, *, most_events: int = MOST_EVENTS
) -> list[Piece]:
    """The hours of the range, or a sample of the one whose turn it is; none where nothing is there to check.

    Raises:
        ConfigurationError: the range is not one, or reaches beyond raw events.
    """
    begin = raw_begin(connection)
    if not config.is_given:
        closed = books.closed_hours(connection, begin, now.replace(minute=0, second=0, microsecond=0))
        return [sample(closed, int(now.timestamp() / _TURN.total_seconds()), most_events)] if closed else []
    hours = hours_of(config, now)
    if hours[0] < begin:
        raise ConfigurationError(
            f"start {config.start}: raw events from before {begin:%Y-%m-%dT%H:%MZ} are gone (retention): begin there"
        )
    return [Piece(hour, hour + _HOUR) for hour in hours]


def sample(closed: list[tuple[datetime, int]], turn: int, most_events: int) -> Piece:
    """The hour whose turn it is; of a large one so many minutes as fit, others when its turn comes again."""
    hour, events = closed[turn % len(closed)]
    if events <= most_events:
        return Piece(hour, hour + _HOUR)
    width = max(1, 60 * most_events // events)
    parts = -(-60 // width)
    first = width * (turn // len(closed) % parts)
    return Piece(hour + timedelta(minutes=first), hour + timedelta(minutes=min(60, first + width)))
