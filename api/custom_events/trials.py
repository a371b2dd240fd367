"""`/api/v1/custom-events/{name}/validate` and `/compatibility`: what a schema would do, without doing it.

Belongs here: finding the schema, and judging an event. Does not belong here: reading bodies (`trial_schemas`), judging
stored events (`surveys`), the judging itself (`analytics_pipeline.events`).
"""

import asyncio

import msgspec
from fastapi import APIRouter, Request, Response

from analytics_pipeline.events.definitions import Definitions, compile_definition
from analytics_pipeline.events.json_schema import Schema
from analytics_pipeline.events.misspelt import misspelt_keywords
from analytics_pipeline.events.posted import Refused, read_posted
from api.access import READ_PART
from api.custom_events import trial_schemas
from api.custom_events.names import ONE, is_below, name_to_change, name_to_read
from api.custom_events.repository import get_version, list_versions, no_such_definition
from api.custom_events.schemas import MOST_VERSION
from api.custom_events.surveys import survey, turn
from api.database import Database
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import NotFound
from api.events.schemas import request_body
from api.json_answer import json_answer

router = APIRouter(tags=["Custom events"])


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

    async with turn(services):
        verdict = await asyncio.to_thread(judge)
    content = {"is_valid": verdict["reason"] is None, **verdict, "version": version}
    return json_answer(content | {"warnings": misspelt_keywords(schema)})


@router.post(
    ONE + "/compatibility",
    summary="Try a schema on stored events",
    response_model=trial_schemas.CompatibilityAnswer,
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
    report = await survey(services, known, version, schema, last=wanted.last)
    return json_answer(report | {"warnings": misspelt_keywords(schema)})


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
