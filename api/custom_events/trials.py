"""`/api/v1/custom-events/{name}/validate` and `/compatibility`: what a schema would do, without doing it.

Belongs here: finding the schema, and judging beside the event loop, one request at a time: the worst schema that may be
registered takes half a second for an event. Does not belong here: reading bodies (`trial_schemas`), the judging itself
(`analytics_pipeline.events`).
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from fastapi import APIRouter, Request, Response

from analytics_pipeline.events.compatibility import StoredEvent, Survey
from analytics_pipeline.events.definitions import Definitions, compile_definition
from analytics_pipeline.events.json_schema import Schema
from analytics_pipeline.events.posted import Refused, read_posted
from analytics_pipeline.storage.definitions import RECENT
from api.access import READ_PART
from api.custom_events import trial_schemas
from api.custom_events.names import ONE, is_below, name_to_change, name_to_read
from api.custom_events.repository import get_version, list_versions, no_such_definition
from api.custom_events.schemas import MOST_VERSION
from api.database import Database
from api.dependencies import Services, ServicesDependency
from api.documentation import errors
from api.errors import NotFound, Unavailable
from api.events.schemas import request_body
from api.json_answer import json_answer
from api.turns import QUEUE_TIME

router = APIRouter(tags=["Custom events"])

_AT_ONCE = 50


class _Typed(msgspec.Struct):
    event_type: str


@router.post(
    ONE + "/validate",
    summary="Try an event on a definition",
    response_model=trial_schemas.TrialAnswer,
    responses=errors(400, 404, 413, 415, 429, 503),
    openapi_extra=request_body(trial_schemas.TrialBody, trial_schemas.TRIAL_EXAMPLE),
    dependencies=[READ_PART],
)
async def post_validate(name: str, request: Request, services: ServicesDependency) -> Response:
    """Judged as ingest would, also by a definition that is not active, and stored nowhere."""
    if not is_below(request, "/validate"):
        raise no_such_definition()
    trial = trial_schemas.read_trial(await request.body())
    known = name_to_read(name, request)
    version, schema = await _schema_of(services.database, known, trial.schema, trial.version)

    def judge() -> dict[str, object]:
        definitions = Definitions({known: compile_definition(known, version, schema)})
        [verdict] = read_posted(
            [trial.event], now=services.clock(), limits=services.limits, definitions=definitions
        )
        if isinstance(verdict, Refused):
            return {"reason": verdict.reason.value, "path": verdict.path, "detail": verdict.detail}
        if msgspec.json.decode(verdict.payload, type=_Typed).event_type != known:
            raise trial_schemas.wrong_type()
        return {"reason": None, "path": None, "detail": None}

    async with _turn(services):
        verdict = await asyncio.to_thread(judge)
    return json_answer({"is_valid": verdict["reason"] is None, **verdict, "version": version})


@router.post(
    ONE + "/compatibility",
    summary="Try a schema on stored events",
    response_model=trial_schemas.SurveyAnswer,
    responses=errors(400, 404, 413, 415, 429, 503),
    openapi_extra=request_body(trial_schemas.SurveyBody, trial_schemas.SURVEY_EXAMPLE),
    dependencies=[READ_PART],
)
async def post_compatibility(name: str, request: Request, services: ServicesDependency) -> Response:
    """How many of the newest events of the type a schema would refuse, and why; a type needs no definition for it."""
    if not is_below(request, "/compatibility"):
        raise no_such_definition()
    wanted = trial_schemas.read_wanted(await request.body())
    known = name_to_change(name, request)
    version, schema = await _schema_of(services.database, known, wanted.schema, None)
    async with _turn(services):
        survey = Survey(await asyncio.to_thread(compile_definition, known, version, schema))
        is_complete = await _judge_stored(services, survey, known, wanted.last)
    report = survey.report()
    return json_answer(
        {
            "name": known,
            "is_compatible": report.is_compatible,
            "is_complete": is_complete,
            "judged": report.judged,
            "refused": report.refused,
            "kinds": [kind._asdict() for kind in report.kinds],
            "oldest": report.oldest,
            "newest": report.newest,
        }
    )


async def _judge_stored(services: Services, survey: Survey, name: str, last: int) -> bool:
    """Whether all of them were judged in time; they are read as they are judged."""
    until = time.monotonic() + services.settings.analytics.query.timeout.total_seconds() * 0.8

    def judge(events: list[StoredEvent]) -> None:
        survey.judge(itertools.takewhile(lambda _: time.monotonic() < until, events))

    read = 0
    async with (
        services.database.read("custom_events") as connection,
        connection.transaction(),
        connection.cursor("recent_events") as cursor,
    ):
        await cursor.execute(RECENT, (name, last))
        while time.monotonic() < until:
            rows = await cursor.fetchmany(_AT_ONCE)
            if not rows:
                return survey.judged == read
            read += len(rows)
            await asyncio.to_thread(judge, [StoredEvent(*row) for row in rows])
    return False


async def _schema_of(
    database: Database, name: str, schema: Schema | None, version: int | None
) -> tuple[int, Schema | str]:
    """The schema asked for and its version: the one given, which is not stored, or that version, or the newest.

    Raises:
        NotFound: there is no such version, or no definition.
    """
    if version is not None:
        found = await get_version(database, name, version)
        if found is None:
            raise NotFound("There is no such version of a custom event of this name.")
        return version, found.schema
    newest = await list_versions(database, name, before=MOST_VERSION, limit=1)
    if schema is not None:
        return (newest[0].version + 1 if newest else 1), schema
    if not newest or not newest[0].is_current:
        raise no_such_definition()
    return newest[0].version, newest[0].schema


@asynccontextmanager
async def _turn(services: Services) -> AsyncIterator[None]:
    """One at a time in a process.

    Raises:
        Unavailable: others take too long.
    """
    try:
        async with asyncio.timeout(QUEUE_TIME):
            await services.trials.acquire()
    except TimeoutError:
        raise Unavailable("Another schema is being tried; try again shortly.", kind="overloaded") from None
    try:
        yield
    finally:
        services.trials.release()
