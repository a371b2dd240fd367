"""`/api/v1/session`: a page exchanges a key for a cookie that no script can read, and gets a token for its writes.

Belongs here: the exchange, who is there, the way out. Does not belong here: judging cookies (`gate`, `keyring`).

EventSource and plain links send no headers of their own, cookies they do. The session is kept in Postgres by its hash:
it survives Redis and every restart, and ends with its key.
"""

import secrets
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from analytics_pipeline.storage.api_keys import SCOPES
from api.access import ANY_KEY
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import Conflict
from api.gate import COOKIE, session_in
from api.keyring import csrf_of
from api.keys.endpoints import NO_STORE
from api.keys.repository import close_session, open_session
from api.keys.schemas import SessionAnswer
from api.principal import Principal, principal_of

router = APIRouter(tags=["Keys"])
PATH = "/api/v1/session"


_COOKIE = f"`{COOKIE.decode()}`; HttpOnly, SameSite=Strict, and Secure where the page came over HTTPS."


def _set_cookie_header(description: str, example: str) -> dict[str, Any]:
    header = {"description": description, "schema": {"type": "string"}, "example": example}
    return {"headers": {"Set-Cookie": header}}


@router.post(
    PATH,
    status_code=201,
    summary="Exchange a key for a cookie",
    response_model=SessionAnswer,
    responses=errors(403, 409, 429, 503)
    | {
        201: _set_cookie_header(
            f"The session: {_COOKIE}",
            f"{COOKIE.decode()}=0123…cdef; HttpOnly; Max-Age=43200; Path=/; SameSite=strict",
        )
    },
    dependencies=[ANY_KEY],
)
async def post_session(request: Request, services: ServicesDependency) -> Response:
    """Sets an HttpOnly, SameSite=Strict cookie in place of the key in the header."""
    principal = principal_of(request)
    if principal.key_id is None:
        raise Conflict(
            "Nobody needs a key here (security.api_key_enabled), so there is none to exchange.",
            kind="no-keys",
            title="No keys",
        )
    if principal.session is not None:
        raise Conflict(
            "A cookie is exchanged for no other, or it would never end: send the key itself.",
            kind="has-session",
            title="Has a session",
        )
    text = secrets.token_hex(32).encode()
    lifetime = services.settings.security.session_lifetime
    await open_session(services.database, text, principal.key_id, services.clock() + lifetime)
    answer = _answer(principal, csrf_of(text), 201)
    _set_cookie(request, answer, text.decode(), int(lifetime.total_seconds()))
    return answer


@router.get(
    PATH,
    summary="Who is there",
    response_model=SessionAnswer,
    responses=errors(429, 503),
    dependencies=[ANY_KEY],
)
async def get_session(request: Request) -> Response:
    """The key of this request, and the token for writes, if the key came as a cookie."""
    principal = principal_of(request)
    return _answer(principal, principal.csrf, 200)


@router.delete(
    PATH,
    status_code=204,
    summary="End a session",
    responses=errors(403, 429, 503)
    | {
        204: _set_cookie_header(
            f"The end of the cookie {_COOKIE}",
            f'{COOKIE.decode()}=""; HttpOnly; Max-Age=0; Path=/; SameSite=strict',
        )
    },
    dependencies=[ANY_KEY],
)
async def delete_session(request: Request, services: ServicesDependency) -> Response:
    """Every API process refuses the cookie within a second; the key itself goes on."""
    text = session_in(dict(request.headers.raw))
    if text is not None:
        await close_session(services.database, text)
    answer = Response(status_code=204, headers=NO_STORE)
    _set_cookie(request, answer, "", 0)
    return answer


def _answer(principal: Principal, csrf: str | None, status: int) -> Response:
    content = {
        "key_id": principal.key_id,
        "scopes": [scope for scope in SCOPES if scope in principal.scopes],
        "csrf_token": csrf,
    }
    return Response(orjson.dumps(content), status, media_type="application/json", headers=NO_STORE)


def _set_cookie(request: Request, answer: Response, text: str, seconds: int) -> None:
    # A proxy may speak TLS for us: then the browser says so in the origin of its page.
    is_secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    answer.set_cookie(
        COOKIE.decode(), text, max_age=seconds, path="/", secure=is_secure, httponly=True, samesite="strict"
    )
