"""`/api/v1/pipeline`: whether anything is wrong, what, and what to do; lag, freshness, merges, Dagster's runs."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from analytics_pipeline import telemetry
from analytics_pipeline.rollups.catalog import Catalog
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.dagster_runs import Orchestration, read_orchestration
from analytics_pipeline.storage.partition_states import state_of
from analytics_pipeline.storage.pipeline import Partition, Pipeline
from analytics_pipeline.storage.problems import worst
from analytics_pipeline.storage.troubles import look
from api.access import READ
from api.answers import NOT_MODIFIED
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.json_answer import conditional_answer, json_answer
from api.operations import pipeline_schemas as schemas

router = APIRouter(tags=["Operations"])
PATH = "/api/v1/pipeline"


@router.get(
    PATH,
    summary="Show whether anything is wrong, and what to do",
    response_model=schemas.PipelineAnswer,
    responses=errors(429, 503),
    dependencies=[READ],
)
async def get_pipeline(services: ServicesDependency) -> Response:
    """Problems in a sentence each; then how far each partition is, what waits, and what is not settled."""
    state = await services.health.check()
    catalog, now = services.definitions.catalog(), services.clock()
    content = await services.desk.read(
        "pipeline",
        lambda opened: _look(opened, services.settings, catalog, now, is_cache_down=state.cache is False),
    )
    return json_answer(content)


@router.get(
    PATH + "/runs",
    summary="List Dagster's last runs and checks",
    response_model=schemas.RunsAnswer,
    responses=errors(429, 503) | NOT_MODIFIED,
    dependencies=[READ],
)
async def get_runs(request: Request, services: ServicesDependency) -> Response:
    """From Dagster's own tables, so also while it is down."""
    schema, now = services.settings.dagster.schema_name, services.clock()
    found = await services.desk.read("runs", lambda opened: read_orchestration(opened, schema, now=now))
    known = found or Orchestration([], [], None)
    return conditional_answer(
        request,
        {
            "is_known": found is not None,
            "daemon_at": known.daemon_at,
            "runs": [run._asdict() for run in known.runs],
            "checks": [check._asdict() for check in known.checks],
        },
    )


def _look(
    connection: Connection, settings: Settings, catalog: Catalog, now: datetime, *, is_cache_down: bool
) -> dict[str, Any]:
    found, every = look(connection, settings, catalog, now, is_cache_down=is_cache_down)
    return {
        "at": now,
        "status": worst(every),
        "problems": [problem._asdict() for problem in every],
        **_numbers(found),
    }


def _numbers(found: Pipeline) -> dict[str, Any]:
    lags = telemetry.newest_values(telemetry.INGEST_LAG, "topic", "partition")
    return {
        "landing": {
            "rate": found.rate,
            "landed_at": found.landed_at,
            "connections": found.waiting.landing_connections,
            "inbox_events": found.waiting.inbox_events,
            "inbox_oldest_seconds": found.waiting.inbox_age,
            "partitions": [_partition(one, lags, found.at) for one in found.partitions],
        },
        "rollups": {
            "pending_deltas": found.pending_deltas,
            "pending_hours": found.pending_hours,
            "oldest_pending_seconds": found.oldest_pending,
            "settled_at": found.settled_at,
            "run_id": found.run_id,
            "unsettled": [asdict(one) for one in found.unsettled],
            "due": found.due,
            "restated": found.restated,
        },
        "last_hour": {
            "read": found.read,
            "dead": found.dead.total(),
            "reasons": dict(found.dead.most_common()),
            "gaps": found.gaps,
            "unbalanced": found.unbalanced,
        },
        "tables": {"days_ahead": found.days_ahead, "overdue_seconds": found.overdue},
    }


def _partition(one: Partition, lags: dict[tuple[str, ...], float], now: datetime) -> dict[str, Any]:
    standing = one.standing
    lag = lags.get((standing.source, str(standing.partition)))
    at = standing.caught_up_at
    return {
        "source": standing.source,
        "partition": standing.partition,
        "state": state_of(one, now),
        "next_offset": standing.next_offset,
        "lag": None if lag is None else int(lag),
        "rate": one.rate,
        "caught_up_at": at,
        "behind_seconds": None if at is None else max(0.0, (now - at).total_seconds()),
        "is_retired": standing.is_retired,
        "is_owner_connected": standing.is_owner_connected,
        "stop_reason": standing.stop_reason,
        "stopped": standing.stopped,
    }
