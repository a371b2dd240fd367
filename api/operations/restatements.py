"""`/api/v1/restatements`: totals of buckets that changed after they were final; a feed to poll."""

from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.restatements import Reason, Restatement, complete_until, restatements
from api.access import READ
from api.answers import NOT_MODIFIED
from api.cursors import read_cursor, write_cursor
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.json_answer import conditional_answer
from api.parameters import LIMIT, Parameter, Query, openapi_parameters

router = APIRouter(tags=["Operations"])
PATH = "/api/v1/restatements"

_KIND = "restatements"
_TIME = (("type", "string"), ("format", "date-time"))
METRIC = Parameter("metric_name", "Only this metric.", "trading.total_volume")
INTERVAL = Parameter(
    "interval", "Only buckets of this interval.", "1h", (("type", "string"), ("enum", list(LEVELS)))
)
REASON = Parameter(
    "reason",
    "Only changes of this kind: late (events landed after the bucket was final) or backfill.",
    "late",
    (("type", "string"), ("enum", list(Reason))),
)
START = Parameter(
    "start_time", "Only buckets that start then or later. Default: no limit.", "2026-01-31T00:00:00Z", _TIME
)
END = Parameter(
    "end_time", "Only buckets that start before then. Default: no limit.", "2026-02-01T00:00:00Z", _TIME
)
SINCE = Parameter(
    "since", "Only changes made from then on. Default: no limit.", "2026-02-01T00:00:00Z", _TIME
)
CURSOR = Parameter("cursor", "`next_cursor` or `previous_cursor` of another answer to the same question.")
PARAMETERS = (METRIC, INTERVAL, REASON, START, END, SINCE, CURSOR, LIMIT)

_AGGREGATES = ("count", "sum", "min", "max", "p50", "p95", "p99", "distinct_count")


class TotalAnswer(BaseModel):
    """A total of a bucket; null for what the metric does not keep."""

    count: int = Field(examples=[100])
    sum: float | None = Field(examples=[250.5])
    min: float | None
    max: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    distinct_count: int | None


class RestatementAnswer(BaseModel):
    """One total of one bucket that was final, before and after a change."""

    id: int = Field(examples=[812])
    restated_at: datetime
    reason: Reason = Field(examples=["late"])
    run_id: str = Field(description="Of the merge or backfill that changed it.")
    interval: str = Field(examples=["1h"])
    time_bucket: datetime
    revision: int = Field(
        description="That this change gave the bucket; points of metrics show it.", examples=[2]
    )
    metric_id: str
    metric_name: str = Field(examples=["trading.total_volume"])
    old: TotalAnswer | None = Field(description="Null where there was no such total.")
    new: TotalAnswer | None = Field(description="Null where there is none any more.")


class RestatementsAnswer(BaseModel):
    """Restatements, newest first."""

    restatements: list[RestatementAnswer]
    count: int = Field(description="How many are in this answer.", examples=[1])
    next_cursor: str | None = Field(
        default=None, description="Leads to older ones; absent where there are none."
    )
    previous_cursor: str = Field(
        description="Leads to newer ones, also to those that come later: poll with it."
    )


class _Page(NamedTuple):
    rows: list[Restatement]
    has_more: bool
    complete: int


@router.get(
    PATH,
    summary="List what changed after it was final",
    response_model=RestatementsAnswer,
    responses=errors(400, 429, 503) | NOT_MODIFIED,
    openapi_extra=openapi_parameters(PARAMETERS),
    dependencies=[READ],
)
async def get_restatements(request: Request, services: ServicesDependency) -> Response:
    """Newest first. Whoever keeps `previous_cursor` and asks with it again sees every later change once.

    Totals only: a change within a bucket that leaves its total as it was has no line.
    """
    query = Query(request.scope["query_string"], PARAMETERS)
    settings = services.settings.analytics.query
    limit = query.number(LIMIT, default=settings.default_limit, low=1, high=settings.max_results)
    # Not the times, which a follower of the feed may move on.
    question = {
        "metric_name": query.text(METRIC),
        "interval": query.choice(INTERVAL, list(LEVELS)),
        "reason": query.choice(REASON, list(Reason)),
    }
    at, is_newer = read_cursor(query, CURSOR, _KIND, int, int, question=question) or (None, 0)
    wanted: dict[str, Any] = question | {
        "start": query.time(START),
        "end": query.time(END),
        "since": query.time(SINCE),
        "after" if is_newer else "before": at,
    }
    page = await services.desk.read("restatements", lambda opened: _read(opened, wanted, limit))
    return _answer(request, page, question, after=at if is_newer else None, before=None if is_newer else at)  # type: ignore[arg-type]


def _read(connection: Connection, wanted: dict[str, Any], limit: int) -> _Page:
    complete = complete_until(connection)
    found = restatements(connection, **wanted, until_id=complete, limit=limit + 1)
    return _Page(found[:limit], len(found) > limit, complete)


def _answer(
    request: Request, page: _Page, question: object, *, after: int | None, before: int | None
) -> Response:
    """Rows newest first, whichever way they were read, and where to go on at both ends."""
    rows = page.rows if after is None else page.rows[::-1]
    if after is not None:
        older: int | None = rows[-1].id if rows else after + 1
        newer = rows[0].id if page.has_more else max(after, page.complete)
    else:
        older = rows[-1].id if page.has_more else None
        # At the top of the feed, all up to there was looked at; below it, what is newer was on the page before.
        newer = page.complete if before is None else (rows[0].id if rows else before - 1)
    content: dict[str, Any] = {"restatements": [_plain(row) for row in rows], "count": len(rows)}
    if older is not None:
        content["next_cursor"] = write_cursor(_KIND, older, 0, question=question)
    content["previous_cursor"] = write_cursor(_KIND, max(0, newer), 1, question=question)
    return conditional_answer(request, content)


def _plain(row: Restatement) -> dict[str, Any]:
    return {
        "id": row.id,
        "restated_at": row.restated_at,
        "reason": row.reason,
        "run_id": row.run_id,
        "interval": row.interval,
        "time_bucket": row.time_bucket,
        "revision": row.revision,
        "metric_id": row.metric_id,
        "metric_name": row.metric_name,
        "old": _total(row, "old"),
        "new": _total(row, "new"),
    }


def _total(row: Restatement, which: str) -> dict[str, Any] | None:
    values = {name: getattr(row, f"{which}_{name}") for name in _AGGREGATES}
    if values["count"] is None:
        return None
    return {name: float(value) if isinstance(value, Decimal) else value for name, value in values.items()}
