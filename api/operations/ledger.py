"""`/api/v1/ledger`: what became of every message, per partition and time, and the proof of it."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from analytics_pipeline.storage import audit
from analytics_pipeline.storage.batches import Key, batches
from analytics_pipeline.storage.conservation import Conservation, conservation
from analytics_pipeline.storage.standings import Standing
from api.access import READ
from api.answers import NOT_MODIFIED
from api.cursors import CURSOR, read_cursor, write_cursor
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.json_answer import conditional_answer, json_answer
from api.operations import ledger_schemas as schemas
from api.parameters import END_TIME, LIMIT, START_TIME, Query, openapi_parameters
from api.times import format_time

router = APIRouter(tags=["Operations"])
PATH = "/api/v1/ledger"

_KIND = "ledger"
_LINES = (*schemas.FILTERS, CURSOR, LIMIT)
_CONSERVATION = (START_TIME, END_TIME, schemas.SOURCE, schemas.PARTITION)
_CHECKS = (START_TIME, schemas.TABLES)


@router.get(
    PATH,
    summary="List batches: what each partition's messages became",
    response_model=schemas.LinesAnswer,
    responses=errors(400, 429, 503) | NOT_MODIFIED,
    openapi_extra=openapi_parameters(_LINES),
    dependencies=[READ],
)
async def get_lines(request: Request, services: ServicesDependency) -> Response:
    """Lines of the ledger, newest first: one per batch and partition. The same as `analytics ledger show`."""
    query = Query(request.scope["query_string"], _LINES)
    settings = services.settings.analytics.query
    limit = query.number(LIMIT, default=settings.default_limit, low=1, high=settings.max_results)
    asked = schemas.read_filter(query, limit=limit + 1)
    # Not the range, which may move on between pages that are polled.
    question = replace(asked, since=None, until=None, limit=0)
    after = read_cursor(query, CURSOR, _KIND, int, str, int, question=question)
    wanted = asked if after is None else replace(asked, after=Key(*after))  # type: ignore[arg-type]
    found = await services.desk.read("ledger", lambda opened: batches(opened, wanted))
    lines = found[:limit]
    content: dict[str, Any] = {"lines": lines, "count": len(lines)}
    if len(found) > limit:
        content["next_cursor"] = write_cursor(_KIND, *lines[-1].key, question=question)
    return conditional_answer(request, content)


@router.get(
    PATH + "/conservation",
    summary="Account for every message of a range",
    response_model=schemas.ConservationAnswer,
    responses=errors(400, 429, 503),
    openapi_extra=openapi_parameters(_CONSERVATION),
    dependencies=[READ],
)
async def get_conservation(request: Request, services: ServicesDependency) -> Response:
    """Per partition: read = stored + duplicate + dead, offsets without a gap, and where it stands now.

    Batches count by when they were committed. All numbers are of one moment.
    """
    query, now = Query(request.scope["query_string"], _CONSERVATION), services.clock()
    start, end = query.range(now)
    source, partition = query.text(schemas.SOURCE, limit=255), schemas.read_partition(query)
    found = await services.desk.read(
        "ledger",
        lambda opened: conservation(opened, since=start, until=end, source=source, partition=partition),
    )
    return json_answer(
        {"start_time": format_time(start), "end_time": format_time(end), **_conserved(found, now)}
    )


@router.get(
    PATH + "/checks",
    summary="Prove that nothing was lost or doubled",
    response_model=schemas.ChecksAnswer,
    responses=errors(400, 429, 503),
    openapi_extra=openapi_parameters(_CHECKS),
    dependencies=[READ],
)
async def get_checks(request: Request, services: ServicesDependency) -> Response:
    """Every balance of the ledger from `start_time` on, in one snapshot; broken places are named.

    With `tables=true` its sums are also compared with the rows of events and dead letters, which reads those: the same
    as `analytics ledger verify`, and for long ranges better left to it.
    """
    query = Query(request.scope["query_string"], _CHECKS)
    start, _ = query.range(services.clock())
    verify = audit.verify if schemas.read_flag(query, schemas.TABLES) else audit.verify_ledger
    checks = await services.desk.read("ledger", lambda opened: verify(opened, since=start))
    return json_answer(
        {
            "start_time": format_time(start),
            "holds": all(check.holds for check in checks),
            "checks": [check.as_dict() for check in checks],
        }
    )


def _conserved(found: Conservation, now: datetime) -> dict[str, Any]:
    standings = {(one.source, one.partition): one for one in found.standings}
    rows: dict[tuple[str, int], dict[str, Any]] = {
        key: {**schemas.NOTHING, "source": key[0], "partition": key[1]} for key in standings
    }
    rows |= {(one.source, one.partition): {**asdict(one), "holds": one.holds} for one in found.partitions}
    partitions = [row | {"standing": _standing(standings.get(key), now)} for key, row in sorted(rows.items())]
    return {
        "holds": all(row["holds"] for row in partitions),
        "totals": {name: sum(row[name] for row in partitions) for name in schemas.TOTALS},
        "partitions": partitions,
        "gaps": [gap._asdict() for gap in found.gaps],
    }


def _standing(one: Standing | None, now: datetime) -> dict[str, Any] | None:
    if one is None:
        return None
    caught_up_at = one.caught_up_at
    return {
        "next_offset": one.next_offset,
        "epoch": one.epoch,
        "caught_up_at": caught_up_at,
        "behind_seconds": None if caught_up_at is None else max(0.0, (now - caught_up_at).total_seconds()),
        "is_retired": one.is_retired,
        "is_owner_connected": one.is_owner_connected,
        "updated_at": one.updated_at,
    }
