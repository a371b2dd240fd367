"""The check that recomputes: every metric of some hours, from raw events, against what is served.

Belongs here: which hours, and judging. Does not belong here: the comparison (`storage.recompute`).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg
from pydantic import Field

from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.assets import HOUR_LEVELS, KEYS
from analytics_pipeline.defs.rollups.reports import RecomputeReport
from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups.catalog import REGISTER_ID
from analytics_pipeline.storage import books
from analytics_pipeline.storage.backfill import raw_begin, whole_hours
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.metric_versions import complete_in
from analytics_pipeline.storage.recompute import recompute_hour

_MOST_EVENTS = 2_000_000
"""Of an hour that is taken as a sample, so that the check costs seconds; a range that is asked for has no limit."""
_TURN = timedelta(minutes=10)


class Range(dg.Config):
    """Which hours to check; without a range one hour, another each time."""

    start: str = Field(default="", description="From the hour of this time on, such as 2026-05-15T12:00Z.")
    end: str = Field(default="", description="Before this time; now, where it is left out.")


@dg.asset_check(
    asset=KEYS["1h"],
    name="every_metric_equals_raw",
    description=(
        "Counts, sums, states and set hash of every metric at four levels, recomputed from raw events: of one closed "
        "hour, each in its turn, or of the range in run config. Metrics that wait for a backfill there are left out. "
        "Writes nothing."
    ),
)
def every_metric_equals_raw(
    context: dg.AssetCheckExecutionContext, config: Range, pipeline: Pipeline
) -> dg.AssetCheckResult:
    """Compare hour by hour; a difference is an error of the rollups."""
    report = RecomputeReport()
    try:
        with pipeline.connection("checks") as connection:
            catalog = pipeline.catalog(connection)
            hours = chosen_hours(connection, config, pipeline.now())
            for hour in hours:
                result = recompute_hour(
                    pipeline.conninfo,
                    hour,
                    run_id=context.run.run_id,
                    catalog=catalog,
                    metric_ids=[*complete_in(connection, catalog.by_id, hour), REGISTER_ID],
                    write=False,
                )
                report.add(result)
    except ConfigurationError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    counts = {level: report.metadata(level)["differences"] for level in HOUR_LEVELS}
    return dg.AssetCheckResult(
        passed=all(not count.value for count in counts.values()),
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            **report.metadata("1h"),
            **{f"differences at {level}": count for level, count in counts.items()},
            "first hour": f"{hours[0]:%Y-%m-%dT%H:00Z}" if hours else "none is closed yet",
        },
    )


def chosen_hours(connection: Connection, config: Range, now: datetime) -> list[datetime]:
    """The hours of the range, or the one whose turn it is; none where nothing is there to check.

    Raises:
        ConfigurationError: the range is not one, or reaches beyond raw events.
    """
    begin = raw_begin(connection)
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    if not config.start and not config.end:
        hours = books.closed_hours(connection, begin, this_hour, most_events=_MOST_EVENTS)
        return [hours[int(now.timestamp() / _TURN.total_seconds()) % len(hours)]] if hours else []
    start = _time("start", config.start)
    end = min(now, _time("end", config.end) if config.end else now)
    if start >= end:
        raise ConfigurationError(
            f"start {config.start} is not before end {config.end or 'now'}: nothing to check"
        )
    if start < begin:
        raise ConfigurationError(
            f"start {config.start}: raw events from before {begin:%Y-%m-%dT%H:%MZ} are gone (retention): begin there"
        )
    return whole_hours(start, end)


def _time(name: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ConfigurationError(f"{name} {text!r} is no time with a zone: write one like 2026-05-15T12:00Z")
    return found.astimezone(UTC)
