"""The OpenAPI document: error answers that every route shares, and the page that shows it.

Belongs here: descriptions. Does not belong here: the shapes of one feature (its `schemas`).
"""

import re
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from api.access import Rule, rules_of
from api.answers import (
    add_examples,
    add_headers,
    describe_cache,
    describe_condition,
    describe_path,
    statuses_of_edge,
)
from api.errors import (
    MEDIA_TYPE,
    TYPE_PREFIX,
    Conflict,
    Forbidden,
    HttpProblem,
    NotFound,
    Problem,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    invalid_parameter,
)
from api.examples import EXAMPLES, STREAMS
from api.gate import COOKIE, UNLIMITED

TITLE = "B25 Analytics"
DESCRIPTION = """\
Events, metrics and dashboards of the B25 trading system.

Times are RFC 3339 with a zone; ranges are half-open, `[start, end)`. Days and hours begin in UTC, or in the zone that \
`time_zone` names.
Metrics are true to the last committed event: settled rollups plus what has landed since, in one snapshot.
Errors are `application/problem+json` (RFC 9457) and also carry an `error` field; each route says which it can answer,
and `docs/problems.md` of the source lists all types.
"""


TAGS = {
    "Events": "Post events and learn what became of them; list, stream and count what is stored.",
    "Metrics": "Metrics per interval, in total and by dimension.",
    "Discovery": "What can be asked for: metrics, dimensions, the values they have had.",
    "Dashboard": "Ten figures of the moment.",
    "Custom events": "JSON Schemas of event types, their versions, and trying them.",
    "Dead letters": "Messages that could not become events: see, replay or discard them.",
    "Operations": "What the service says about its own work.",
    "Streams": "Server-sent events.",
    "Keys": "Keys, and sessions of pages.",
    "Health": "For probes and load balancers; no key, no limit.",
}


class ProblemAnswer(BaseModel):
    """An error: `type` is stable, texts are for people, input is never repeated; a type may have more fields."""

    type: str = Field(
        pattern=f"^{TYPE_PREFIX}[a-z]+(-[a-z]+)*$", examples=[TYPE_PREFIX + "invalid-parameter"]
    )
    title: str = Field(examples=["Invalid limit parameter"])
    status: int = Field(examples=[400])
    detail: str = Field(examples=["limit: must be a whole number from 1 to 10000"])
    error: str = Field(description="The title again, where the original service had it.")
    request_id: str = Field(description="Also in the X-Request-ID header.", examples=["8f14e45fceea-2a"])
    retry_after: int | SkipJsonSchema[None] = Field(
        default=None, ge=0, description="Seconds to wait, of 429 and 503; also in the Retry-After header."
    )
    parameter: str | SkipJsonSchema[None] = Field(
        default=None, description="The query parameter that is wrong."
    )
    field: str | SkipJsonSchema[None] = Field(
        default=None, description="The field of the body that is wrong."
    )
    reason: str | SkipJsonSchema[None] = Field(
        default=None, description="Why a posted event is none; a reason code, as of dead letters."
    )
    path: str | SkipJsonSchema[None] = Field(
        default=None, description="Where in the posted event.", examples=["$.timestamp"]
    )


_MEANINGS = {
    400: "The request is wrong; `detail` says what, `parameter` which.",
    401: "There is no API key in the request, or none that holds.",
    403: "The key lacks the scope, or sees only a part of what was asked for; or another site sent the write.",
    404: "There is nothing of that name.",
    408: "The body did not arrive within server.read_timeout, or server.request_timeout.",
    409: "It exists already, is used, was changed meanwhile, or became a dead letter; `detail` says which.",
    412: "It was changed since the ETag in If-Match was seen.",
    413: "The body is longer than server.max_body_size.",
    415: "The body has a content type or a compression that is not read.",
    422: "The Idempotency-Key belongs to another request.",
    428: "The change does not say what it changes: send If-Match, or `version` in the body.",
    429: "Too many requests, or queries at once; wait `retry_after` seconds.",
    503: "Postgres is down or the service is busy; try again after `Retry-After` seconds. Nothing was lost.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that can answer with these errors."""
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": f"#/components/schemas/{ProblemAnswer.__name__}"},
                    "example": _example(status),
                }
            },
        }
        for status in statuses
    }


_EXAMPLES: dict[int, Problem] = {
    400: invalid_parameter("limit", "must be a whole number from 1 to 10000"),
    401: Unauthorized("Send an API key in the header X-API-Key, or as Authorization: Bearer."),
    403: Forbidden("This needs a key with the scope read.", kind="missing-scope"),
    404: NotFound("There is no custom event of this name.", title="Custom event not found"),
    409: Conflict("There is a custom event of this name; a definition is not overwritten."),
    413: TooLarge("The body is longer than 10485760 bytes (server.max_body_size)."),
    429: TooManyRequests("Too many requests with this key.", retry_after=2),
    503: Unavailable("Postgres is not reachable.", kind="database-unavailable"),
}
_KINDS = {
    408: ("read-timeout", "Request timeout"),
    412: ("precondition-failed", "Precondition failed"),
    415: ("unsupported-encoding", "Unsupported content encoding"),
    422: ("idempotency-key-reused", "Idempotency-Key reused"),
    428: ("precondition-required", "Precondition required"),
}


def _example(status: int) -> Any:
    problem = _EXAMPLES.get(status)
    if problem is None:
        problem = HttpProblem(status, *_KINDS[status], _MEANINGS[status])
    return orjson.loads(problem.body("8f14e45fceea-2a"))


_SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key."},
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE.decode(),
        "description": "From POST /api/v1/session; a write also needs the header X-CSRF-Token.",
    },
}


def document(app: FastAPI, *, needs_key: bool) -> dict[str, Any]:
    """The OpenAPI document, made once: routes read their input themselves, so FastAPI's own 422 never happens.

    `needs_key`: whether a request without a key is refused where it is not public.
    """
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for methods in made["paths"].values():
            for operation in methods.values():
                if MEDIA_TYPE not in operation["responses"].get("422", {}).get("content", {}):
                    operation["responses"].pop("422", None)
        made.setdefault("components", {})["securitySchemes"] = _SCHEMES
        schemas = made["components"].setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas[ProblemAnswer.__name__] = ProblemAnswer.model_json_schema()
        cached: frozenset[str] = app.state.services.reads.paths
        for (method, path), rule in rules_of(app).items():
            operation = made["paths"].get(re.sub(r":path}", "}", path), {}).get(method.lower())
            if operation is not None:
                _describe(operation, rule, needs_key=needs_key)
                _complete(operation, method.lower(), path, schemas, is_cached=path in cached)
        made["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
        app.openapi_schema = made
    return app.openapi_schema


def _describe(operation: dict[str, Any], rule: Rule, *, needs_key: bool) -> None:
    """Say what a route asks of a key, and how it refuses."""
    operation["security"] = [{name: []} for name in _SCHEMES] if rule.scopes else []
    if not rule.scopes:
        return
    if not needs_key and "admin" not in rule.scopes:
        operation["security"].append({})
    words = f"With keys, it needs the scope {' or '.join(f'`{scope}`' for scope in rule.scopes)}" + (
        "." if rule.knows_parts or "admin" in rule.scopes else ", and a key that sees all events."
    )
    operation["description"] = f"{operation.get('description', '')}\n\n{words}".strip()
    _add_refusals(operation, 401, 403)


def _complete(
    operation: dict[str, Any], method: str, path: str, schemas: dict[str, Any], *, is_cached: bool
) -> None:
    """Say what its route does not see: what the edge does before and behind it."""
    _add_refusals(operation, *statuses_of_edge(method, path, operation, unlimited=UNLIMITED))
    describe_path(operation)
    if is_cached:
        describe_cache(operation)
    describe_condition(operation)
    operation["responses"] = dict(sorted(operation["responses"].items()))
    add_headers(operation)
    add_examples(operation, schemas, EXAMPLES.get(path) if method == "get" else None, STREAMS.get(path))


def _add_refusals(operation: dict[str, Any], *statuses: int) -> None:
    refusals = {str(status): answer for status, answer in errors(*statuses).items()}
    operation["responses"] = dict(sorted((refusals | operation["responses"]).items()))
