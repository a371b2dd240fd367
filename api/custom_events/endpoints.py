"""`/api/v1/custom-events`: define an event type, read a definition."""

import orjson
from fastapi import APIRouter, Request, Response

from api.access import READ_PART, WRITE_PART
from api.audit import SUBJECT
from api.custom_events import schemas
from api.custom_events.repository import StoredDefinition, create_definition, get_definition
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import Forbidden, NotFound
from api.events.schemas import request_body
from api.principal import reach_of

router = APIRouter(tags=["Custom events"])
PATH = "/api/v1/custom-events"


@router.post(
    PATH,
    status_code=201,
    summary="Define a custom event type",
    response_model=schemas.DefinitionAnswer,
    responses=errors(400, 403, 409, 413, 415, 429, 503),
    openapi_extra=request_body(schemas.DefinitionBody, schemas.EXAMPLE),
    dependencies=[WRITE_PART],
)
async def post_custom_event(request: Request, services: ServicesDependency) -> Response:
    """From the next second on, events of this type are validated against the schema, over Kafka and REST."""
    definition = schemas.read_definition(await request.body())
    request.scope[SUBJECT] = definition.name
    reach = reach_of(request)
    if not reach.has_type(definition.name) or reach.dimensions:
        raise Forbidden("A definition judges all events of its type, and the key sees only a part of them.")
    return _answer(await create_definition(services.database, definition), 201)


@router.get(
    PATH + "/{name:path}",
    summary="A custom event type",
    response_model=schemas.DefinitionAnswer,
    responses=errors(404, 429, 503),
    dependencies=[READ_PART],
)
async def get_custom_event(name: str, request: Request, services: ServicesDependency) -> Response:
    """The stored definition of this name."""
    if not reach_of(request).has_type(name):
        raise Forbidden("The key does not see events of this type.")
    found = None if "\0" in name else await get_definition(services.database, name)
    if found is None:
        raise NotFound("There is no custom event of this name.", title="Custom event not found")
    return _answer(found, 200)


def _answer(stored: StoredDefinition, status: int) -> Response:
    content = stored._asdict() | {"schema": orjson.Fragment(stored.schema)}
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), status, media_type="application/json")
