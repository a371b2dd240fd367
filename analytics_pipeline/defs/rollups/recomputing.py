"""A run that recomputes hours, or compares them: live work first, its progress told, what a person has to mend
not retried, what an interrupted run of the same group has done left out.

Belongs here: what such runs have in common. Does not belong here: the work (`storage.backfill`), and which assets
a result belongs to (`assets`, `defs.metrics`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from analytics_pipeline.defs.mistakes import not_retried
from analytics_pipeline.defs.ranges import told
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.storage.backfill import (
    LiveFirst,
    Plan,
    carry_out,
    check_registered,
    ids_of,
    plan,
)
from analytics_pipeline.storage.backfill_previews import preview
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.recompute import RecomputeResult


@dataclass(frozen=True)
class Asked:
    """What a run is to do.

    Attributes:
        hours: which hours, at least one; asked once there is a connection.
        metrics: names; all of the catalog where there is none.
        is_preview: compare, and write nothing.
    """

    hours: Callable[[Connection], list[datetime]]
    metrics: Sequence[str] = ()
    is_preview: bool = False


@dataclass
class Progress:
    """How far a run is; `percent` counts what an interrupted run has done."""

    total: int
    done: int
    began: float

    @property
    def percent(self) -> int:
        """Of the hours, rounded down."""
        return 100 * self.done // max(1, self.total)

    def left(self, now: float, not_counted: int) -> timedelta:
        """How long the rest will take, if it goes on like this; done before, or passed because empty, says nothing."""
        each = (now - self.began) / max(1, self.done - not_counted)
        return timedelta(seconds=round(each * (self.total - self.done)))


def recomputed(
    context: dg.AssetExecutionContext, pipeline: Pipeline, asked: Asked
) -> Iterator[tuple[RecomputeResult, Progress]]:
    """Hour by hour, or day by day where a day has no hours any more.

    Raises:
        Failure: a person has to mend something, in one sentence.
        EnvironmentFault: Postgres or an archive does not answer; what was done stays done.
    """
    verb = "compared" if asked.is_preview else "recomputed"
    with not_retried(), pipeline.connection("recompute-watch") as connection:
        planned = _plan(context, pipeline, connection, asked)
        progress = Progress(planned.done + len(planned.hours), planned.done, time.monotonic())
        empty = 0
        for result in _results(context, pipeline, connection, planned, asked):
            progress.done = min(progress.total, progress.done + result.hours)
            empty += result.is_empty
            if not result.is_empty:
                left = progress.left(time.monotonic(), planned.done + empty)
                context.log.info(
                    f"{verb} {result.hour:%Y-%m-%dT%H:00Z}: {result.events:,} events, {len(result.differences):,} "
                    f"differences, {result.seconds:.1f} s ({progress.done:,} of {progress.total:,} hours, {left} left)"
                )
            yield result, progress
        if empty:
            context.log.info(f"in {empty:,} hours there was nothing, so they were passed")


def _plan(
    context: dg.AssetExecutionContext, pipeline: Pipeline, connection: Connection, asked: Asked
) -> Plan:
    catalog = pipeline.catalog(connection)
    metric_ids = ids_of(asked.metrics, catalog)
    hours = asked.hours(connection)
    if not asked.is_preview:
        check_registered(connection, metric_ids or [], catalog)
    planned = plan(
        connection,
        hours,
        catalog=catalog,
        metric_ids=metric_ids,
        restart=asked.is_preview,
        of_runs=_group(context),
    )
    context.log.info(f"{'to compare' if asked.is_preview else 'to recompute'}: {told(hours)}")
    if planned.done:
        context.log.info(f"{planned.done:,} of them are done by an interrupted run of this group")
    return planned


def _group(context: dg.AssetExecutionContext) -> list[str]:
    """Ids of the runs that this one goes on for, as far as they are still known."""
    run = context.run
    try:
        group = context.instance.get_run_group(run.run_id)
    except dg.DagsterRunNotFoundError:  # the first of them was cleared away
        return [one for one in (run.run_id, run.parent_run_id, run.root_run_id) if one]
    return [one.run_id for one in group[1]] if group else [run.run_id]


def _results(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    connection: Connection,
    planned: Plan,
    asked: Asked,
) -> Iterator[RecomputeResult]:
    def skipped(hour: datetime) -> None:
        context.log.warning(
            f"left out {hour:%Y-%m-%dT%H:00Z}: retention has let its raw events go since this run began"
        )

    def switched(names: list[str], first: datetime) -> None:
        answers = f"from {first:%Y-%m-%dT%H:00Z} on: {', '.join(names)}"
        context.log.info(
            f"answered by their present definition {answers}" if names else "no metric is answered anew"
        )

    live_first = LiveFirst(
        connection, lambda reason: context.log.info(f"waiting: {reason}" if reason else "going on")
    )
    common: dict[str, Any] = {
        "run_id": context.run.run_id, "before_hour": live_first, "skipped": skipped,
    }  # fmt: skip
    if asked.is_preview:
        return preview(connection, pipeline.conninfo, planned, **common)
    return carry_out(connection, pipeline.conninfo, planned, switched=switched, **common)
