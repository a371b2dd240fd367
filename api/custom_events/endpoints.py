"""`/api/v1/custom-events`: define event types, change, list and delete definitions."""

import orjson
from fastapi import APIRouter, Request, Response

from analytics_pipeline.events.misspelt import misspelt_keywords
from analytics_pipeline.rollups.automatic import metric_changes
from api.access import READ_PART, WRITE_PART
from api.audit import SUBJECT
from api.custom_events import schemas
from api.custom_events.listing import PARAMETERS, read_listing
from api.custom_events.names import ONE, PATH, is_below, name_to_change, name_to_read
from api.custom_events.preconditions import precondition_required, read_if_match, tag_of
from api.custom_events.repository import (
    StoredDefinition,
    change_definition,
    create_definition,
    delete_definition,
    find_definition,
    get_definition,
    list_definitions,
    no_such_definition,
)
from api.custom_events.surveys import survey
from api.custom_events.trial_schemas import USUAL_EVENTS, ChangeAnswer
from api.dependencies import Services, ServicesDependency
from api.documentation import errors
from api.events.schemas import request_body
from api.json_answer import json_answer
from api.parameters import openapi_parameters
from api.principal import reach_of

router = APIRouter(tags=["Custom events"])

ETAG = {
    "ETag": {
        "description": "Of the definition as it is now, for If-Match.",
        "schema": {"type": "string"},
        "example": '"1-649d1e0a5b3c0"',
    }
}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "ETag of the definition that this is meant for, or `*`; 412 if it was changed since.",
    "schema": {"type": "string"},
    "example": "*",
}


@router.post(
    PATH,
    status_code=201,
    summary="Define a custom event type",
    response_model=schemas.MadeAnswer,
    responses=errors(400, 403, 409, 413, 415, 429, 503) | {201: {"headers": ETAG}},
    openapi_extra=request_body(schemas.DefinitionBody, schemas.EXAMPLE),
    dependencies=[WRITE_PART],
)
async def post_custom_event(request: Request, services: ServicesDependency) -> Response:
    """From the next second on, events of this type are validated against the schema, over Kafka and REST."""
    definition = schemas.read_definition(await request.body())
    request.scope[SUBJECT] = definition.name
    name_to_change(definition.name, request)
    made = await create_definition(services.database, definition)
    return _answer(made, 201, warnings=misspelt_keywords(definition.schema))


@router.get(
    PATH,
    summary="List custom event types",
    response_model=schemas.DefinitionsAnswer,
    responses=errors(400, 429, 503),
    openapi_extra=openapi_parameters(PARAMETERS),
    dependencies=[READ_PART],
)
async def get_custom_events(request: Request, services: ServicesDependency) -> Response:
    """By name; those of the event types that the key sees."""
    listing = read_listing(request.scope["query_string"])
    found = await list_definitions(services.database, listing, reach_of(request))
    page = found[: listing.limit]
    content = {
        "custom_events": [stored.content() for stored in page],
        "count": len(page),
        "next_cursor": listing.cursor(page[-1].name) if len(found) > len(page) else None,
    }
    return json_answer(content)


@router.get(
    ONE,
    summary="A custom event type",
    response_model=schemas.DefinitionAnswer,
    responses=errors(404, 429, 503) | {200: {"headers": ETAG}},
    dependencies=[READ_PART],
)
async def get_custom_event(name: str, request: Request, services: ServicesDependency) -> Response:
    """The stored definition of this name."""
    found = await get_definition(services.database, name_to_read(name, request))
    if found is None:
        raise no_such_definition()
    return _answer(found, 200)


@router.patch(
    ONE,
    summary="Change a custom event type",
    response_model=ChangeAnswer,
    responses=errors(400, 404, 409, 412, 413, 415, 428, 429, 503) | {200: {"headers": ETAG}},
    openapi_extra=request_body(schemas.ChangeBody, schemas.CHANGE_EXAMPLE) | {"parameters": [IF_MATCH]},
    dependencies=[WRITE_PART],
)
async def patch_custom_event(name: str, request: Request, services: ServicesDependency) -> Response:
    """Another schema is a new version, by which every process judges from its next batch on; other texts are not.

    Say what you change by `If-Match` or `version`, so that nobody's change is lost. The answer to a schema says what it
    would have refused of the newest stored events (`/compatibility` says it beforehand), and which metrics come and go.
    """
    change = schemas.read_change(await request.body())
    expected = read_if_match(request.headers.getlist("if-match"), version=change.version)
    if not expected.is_said:
        raise precondition_required()
    request.scope[SUBJECT] = known = name_to_change(name, request)
    refused = metrics = None
    if change.schema is not None:
        # Before the change, and not under its lock: where no report can be made nothing is changed, and nobody waits.
        present = await find_definition(services.database, known, expected)
        refused = await survey(services, known, present.version + 1, change.schema, last=USUAL_EVENTS)
        metrics = _metric_changes(present, change.schema)
    changed = await change_definition(services.database, known, change, expected)
    warnings = [] if change.schema is None else misspelt_keywords(change.schema)
    return _answer(changed, 200, would_have_refused=refused, warnings=warnings, metrics=metrics)


@router.delete(
    ONE,
    status_code=204,
    summary="Delete a custom event type",
    responses=errors(404, 409, 412, 429, 503),
    openapi_extra={"parameters": [IF_MATCH]},
    dependencies=[WRITE_PART],
)
async def delete_custom_event(name: str, request: Request, services: ServicesDependency) -> Response:
    """Refused while events of the type are stored, messages that it refused wait, or its metrics have data.

    Its versions stay, and a definition made again under this name goes on counting.
    """
    request.scope[SUBJECT] = known = name_to_change(name, request)
    expected = read_if_match(request.headers.getlist("if-match"))
    await delete_definition(services.database, known, expected)
    return Response(status_code=204)


@router.post(
    ONE + "/deactivate",
    summary="Let events of a type pass unjudged",
    response_model=schemas.DefinitionAnswer,
    responses=errors(404, 412, 429, 503) | {200: {"headers": ETAG}},
    openapi_extra={"parameters": [IF_MATCH]},
    dependencies=[WRITE_PART],
)
async def post_deactivate(name: str, request: Request, services: ServicesDependency) -> Response:
    """The definition, its versions and what its metrics have stay; once more changes nothing but the time."""
    return await _set_active(name, request, services, False)


@router.post(
    ONE + "/activate",
    summary="Judge events of a type again",
    response_model=schemas.DefinitionAnswer,
    responses=errors(404, 412, 429, 503) | {200: {"headers": ETAG}},
    openapi_extra={"parameters": [IF_MATCH]},
    dependencies=[WRITE_PART],
)
async def post_activate(name: str, request: Request, services: ServicesDependency) -> Response:
    """By its newest version, from the next second on."""
    return await _set_active(name, request, services, True)


async def _set_active(name: str, request: Request, services: Services, is_active: bool) -> Response:
    if not is_below(request, "/activate" if is_active else "/deactivate"):
        raise no_such_definition()
    request.scope[SUBJECT] = known = name_to_change(name, request)
    expected = read_if_match(request.headers.getlist("if-match"))
    change = schemas.Change(is_active=is_active)
    return _answer(await change_definition(services.database, known, change, expected), 200)


def _metric_changes(present: StoredDefinition, schema: str) -> dict[str, list[str]]:
    schemas = (orjson.loads(present.schema), orjson.loads(schema)) if present.is_active else (None, None)
    return metric_changes(present.name, *schemas)._asdict()


def _answer(stored: StoredDefinition, status: int, **more: object) -> Response:
    return Response(
        orjson.dumps(stored.content() | more, option=orjson.OPT_UTC_Z),
        status,
        media_type="application/json",
        headers={"ETag": tag_of(stored.version, stored.updated_at)},
    )
