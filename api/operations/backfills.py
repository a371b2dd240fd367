"""`/api/v1/backfills`: how far backfills are that have not ended, what previews found, and hours in the making."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from analytics_pipeline.rollups.catalog import Catalog
from analytics_pipeline.storage.backfill_previews import MOST_CHANGES, MOST_PREVIEWS, previews
from analytics_pipeline.storage.backfill_progress import Progress, recomputing, unfinished
from analytics_pipeline.storage.connection import Connection
from api.access import READ
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.json_answer import json_answer

router = APIRouter(tags=["Operations"])
PATH = "/api/v1/backfills"


class BackfillAnswer(BaseModel):
    """What unfinished backfills of the same metrics have done, and have to do."""

    metric_set: str = Field(
        description="Names the metrics and their versions.", examples=["9f86d081884c7d65"]
    )
    metrics: list[str] | None = Field(
        description="Null where they are all, several, or an earlier definition.",
        examples=[["trading.total_volume"]],
    )
    is_everything: bool = Field(description="Whether they are all metrics.", examples=[False])
    state: Literal["running", "interrupted"] = Field(
        description="running: a process that recomputes has been connected since before the last hour was done."
    )
    hours: int = Field(description="Done so far.", examples=[36])
    total_hours: int | None = Field(
        description="To be done, those that are done included. Null where an earlier release began it.",
        examples=[48],
    )
    percent: float | None = Field(description="How much of it is done, 0 to 100.", examples=[75.0])
    first: datetime = Field(description="Start of the first of them.")
    last: datetime = Field(description="End of the last of them.")
    began_at: datetime = Field(description="When the first was done.")
    done_at: datetime = Field(description="When the last was done.")
    runs: list[str] = Field(examples=[["backfill-0a1b2c3d"]])
    given_up_at: datetime = Field(
        description="What was done is forgotten then; until then the same command does the rest."
    )


class RecomputingAnswer(BaseModel):
    """An hour that is being recomputed at this moment, for a backfill or a preview; of a whole day, its first."""

    hour: datetime
    since: datetime | None = Field(description="Start of the last statement.")


class ChangeAnswer(BaseModel):
    """A row that a backfill would change."""

    interval: Literal["1h", "1d"] = Field(description="1d where a day has no hours any more.")
    time_bucket: datetime
    metric_name: str = Field(examples=["trading.total_volume"])
    dimensions: dict[str, str] = Field(examples=[{"symbol": "BTCUSDT"}])
    old: float | None = Field(description="What is served; null where there is none.", examples=[1250.5])
    new: float | None = Field(
        description="What raw events give; null where there is none.", examples=[1251.0]
    )
    difference: float = Field(examples=[0.5])


class PreviewAnswer(BaseModel):
    """A dry run of a backfill, by the command or in Dagster."""

    run_id: str = Field(description="The run in Dagster, or the command's.", examples=["backfill-0a1b2c3d"])
    metrics: list[str] | None = Field(
        description="Null where they are all.", examples=[["trading.total_volume"]]
    )
    state: Literal["running", "completed", "interrupted"] = Field(
        description="interrupted: whoever ran it is gone; a preview is begun anew."
    )
    hours: int = Field(description="Compared so far.", examples=[24])
    total_hours: int = Field(examples=[24])
    percent: float = Field(description="How much of it is done, 0 to 100.", examples=[100.0])
    first: datetime = Field(description="Start of the first of them.")
    last: datetime = Field(description="End of the last of them.")
    events: int = Field(description="Raw events of these hours.", examples=[310_422])
    differences: dict[str, int] = Field(
        description="How many rows of each interval differ; empty where none does.",
        examples=[{"1m": 3, "1h": 1}],
    )
    changes: list[ChangeAnswer] = Field(
        description=f"The first {MOST_CHANGES} rows that differ at 1h. All of them, and of other intervals, the "
        "command's `--json` and the metadata of the run tell."
    )
    began_at: datetime
    updated_at: datetime = Field(description="When the last hour was compared.")
    ended_at: datetime | None = Field(description="Null before it has ended, and where it was interrupted.")


class BackfillsAnswer(BaseModel):
    """Of each list the one that did something last first; backfills that ended leave nothing."""

    backfills: list[BackfillAnswer]
    previews: list[PreviewAnswer] = Field(description=f"Of the last 30 days, at most {MOST_PREVIEWS}.")
    recomputing: list[RecomputingAnswer]


@router.get(
    PATH,
    summary="Show backfills that have not ended, and previews",
    response_model=BackfillsAnswer,
    responses=errors(429, 503),
    dependencies=[READ],
)
async def get_backfills(services: ServicesDependency) -> Response:
    """Running and interrupted ones, and what previews are at and have found."""
    catalog = services.definitions.catalog()
    content = await services.desk.read("backfills", lambda opened: _backfills(opened, catalog))
    return json_answer(content)


def _backfills(connection: Connection, catalog: Catalog) -> dict[str, Any]:
    return {
        "backfills": [_plain(one) for one in unfinished(connection, catalog)],
        "previews": [
            {name: getattr(one, name) for name in PreviewAnswer.model_fields} for one in previews(connection)
        ],
        "recomputing": [one._asdict() for one in recomputing(connection)],
    }


def _plain(one: Progress) -> dict[str, Any]:
    return {
        "metric_set": one.metric_set,
        "metrics": one.metrics,
        "is_everything": one.is_everything,
        "state": "running" if one.is_running else "interrupted",
        "hours": one.hours,
        "total_hours": one.total_hours,
        "percent": one.percent,
        "first": one.first,
        "last": one.last,
        "began_at": one.began_at,
        "done_at": one.done_at,
        "runs": one.runs,
        "given_up_at": one.given_up_at,
    }
