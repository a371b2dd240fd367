"""`/api/v1/custom-events/{name}/versions`: every schema that a name has had."""

from fastapi import APIRouter, Request, Response

from api.access import READ_PART
from api.custom_events import schemas
from api.custom_events.endpoints import get_custom_event
from api.custom_events.names import ONE, is_below, name_to_read
from api.custom_events.repository import get_version, list_versions, no_such_definition
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import NotFound
from api.json_answer import json_answer
from api.parameters import Parameter, Query, openapi_parameters

router = APIRouter(tags=["Custom events"])

_MOST = 100
BEFORE = Parameter(
    "before",
    "Only versions older than this one, for the next page.",
    3,
    (("type", "integer"), ("minimum", 1), ("maximum", schemas.MOST_VERSION)),
)
LIMIT = Parameter(
    "limit",
    f"Most versions to return. Default {_MOST}.",
    _MOST,
    (("type", "integer"), ("minimum", 1), ("maximum", _MOST)),
)
PARAMETERS = (BEFORE, LIMIT)


@router.get(
    ONE + "/versions/{version}",
    summary="One version of a custom event type",
    response_model=schemas.VersionAnswer,
    responses=errors(404, 429, 503),
    dependencies=[READ_PART],
)
async def get_one_version(
    name: str, version: str, request: Request, services: ServicesDependency
) -> Response:
    """The schema that events with this `definition_version` were judged by; also after the definition was deleted."""
    if not is_below(request, f"/versions/{version}"):
        if version == "versions" and is_below(request, "/versions"):  # of a name that ends so itself
            return await get_versions(f"{name}/versions", request, services)
        return await get_custom_event(f"{name}/versions/{version}", request, services)
    known, number = name_to_read(name, request), _number(version)
    found = None if number is None else await get_version(services.database, known, number)
    if found is None:
        raise NotFound("There is no such version of a custom event of this name.")
    return json_answer(found.content())


@router.get(
    ONE + "/versions",
    summary="Versions of a custom event type",
    response_model=schemas.VersionsAnswer,
    responses=errors(400, 404, 429, 503),
    openapi_extra=openapi_parameters(PARAMETERS),
    dependencies=[READ_PART],
)
async def get_versions(name: str, request: Request, services: ServicesDependency) -> Response:
    """Newest first; also after the definition was deleted."""
    if not is_below(request, "/versions"):
        return await get_custom_event(f"{name}/versions", request, services)
    query = Query(request.scope["query_string"], PARAMETERS)
    before = query.number(BEFORE, default=schemas.MOST_VERSION, low=1, high=schemas.MOST_VERSION)
    limit = query.number(LIMIT, default=_MOST, low=1, high=_MOST)
    known = name_to_read(name, request)
    found = await list_versions(services.database, known, before=before, limit=limit)
    if not found and before == schemas.MOST_VERSION:
        raise no_such_definition()
    return json_answer(
        {"name": known, "versions": [version.content() for version in found], "count": len(found)}
    )


def _number(text: str) -> int | None:
    """None: no version can have it."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 10
    return int(text) if is_number and 1 <= int(text) < schemas.MOST_VERSION else None
