"""`/api/v1/keys`: make, list and revoke keys, with a key that is admin."""

import orjson
from fastapi import APIRouter, Request, Response

from analytics_pipeline.storage.api_keys import ApiKey
from api.access import ADMIN
from api.audit import SUBJECT
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import NotFound
from api.events.schemas import request_body
from api.keys import schemas
from api.keys.repository import create_key, list_keys, revoke_key

router = APIRouter(tags=["Keys"])
PATH = "/api/v1/keys"

NO_STORE = {"Cache-Control": "no-store"}


@router.post(
    PATH,
    status_code=201,
    summary="Make a key",
    response_model=schemas.MadeKeyAnswer,
    responses=errors(400, 403, 413, 415, 429, 503),
    openapi_extra=request_body(schemas.KeyBody, schemas.EXAMPLE),
    dependencies=[ADMIN],
)
async def post_key(request: Request, services: ServicesDependency) -> Response:
    """Shown in this answer and never again; every API process knows it within a second."""
    key = schemas.read_key(await request.body(), services.clock())
    request.scope[SUBJECT] = key.id
    stored = await create_key(services.database, key)
    return _answer({**_content(stored, services), "key": key.text}, 201)


@router.get(
    PATH,
    summary="List keys",
    response_model=schemas.KeysAnswer,
    responses=errors(429, 503),
    dependencies=[ADMIN],
)
async def get_keys(services: ServicesDependency) -> Response:
    """Those that were revoked or have expired, too."""
    return _answer({"keys": [_content(key, services) for key in await list_keys(services.database)]}, 200)


@router.delete(
    PATH + "/{key_id}",
    summary="Revoke a key",
    response_model=schemas.KeyAnswer,
    responses=errors(403, 404, 429, 503),
    dependencies=[ADMIN],
)
async def delete_key(key_id: str, request: Request, services: ServicesDependency) -> Response:
    """For good, with its sessions; every API process refuses it within a second. Once more changes nothing."""
    found = None if "\0" in key_id else await revoke_key(services.database, key_id)
    if found is None:
        raise NotFound("There is no key of this id.")
    request.scope[SUBJECT] = found.id
    return _answer(_content(found, services), 200)


def _content(key: ApiKey, services: ServicesDependency) -> dict[str, object]:
    return {**key._asdict(), "state": key.state(services.clock())}


def _answer(content: object, status: int) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_UTC_Z)
    return Response(body, status, media_type="application/json", headers=NO_STORE)
