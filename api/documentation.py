"""The OpenAPI document: error answers that every route shares, and the page that shows it.

Belongs here: descriptions. Does not belong here: the shapes of one feature (its `schemas`).
"""

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from api.access import Rule, rules_of
from api.errors import MEDIA_TYPE, TYPE_PREFIX
from api.gate import COOKIE

TITLE = "B25 Analytics"
DESCRIPTION = """\
Events, metrics and dashboards of the B25 trading system.

Times are RFC 3339 with a zone; ranges are half-open, `[start, end)`; buckets are UTC.
Metrics are true to the last committed event: settled rollups plus what has landed since, in one snapshot.
Errors are `application/problem+json` (RFC 9457) and also carry an `error` field.
"""


class ProblemAnswer(BaseModel):
    """An error: `type` is stable, texts are for people, input is never repeated."""

    type: str = Field(examples=[TYPE_PREFIX + "invalid-parameter"])
    title: str = Field(examples=["Invalid limit parameter"])
    status: int = Field(examples=[400])
    detail: str = Field(examples=["limit: must be a whole number from 1 to 10000"])
    error: str = Field(description="The title again, where the original service had it.")
    request_id: str = Field(description="Also in the X-Request-ID header.")


_MEANINGS = {
    400: "The request is wrong; `detail` says what, `parameter` which.",
    401: "There is no API key in the request, or none that holds.",
    403: "The key lacks the scope, or sees only a part of what was asked for; or another site sent the write.",
    404: "There is nothing of that name.",
    409: "It exists already, is used, was changed meanwhile, or became a dead letter; `detail` says which.",
    412: "It was changed since the ETag in If-Match was seen.",
    413: "The body is longer than server.max_body_size.",
    415: "The body has a content type or a compression that is not read.",
    422: "The Idempotency-Key belongs to another request.",
    428: "The change does not say what it changes: send If-Match, or `version` in the body.",
    429: "Too many requests; wait `retry_after` seconds.",
    503: "Postgres is down or the service is busy; try again after `Retry-After` seconds. Nothing was lost.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that can answer with these errors."""
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemAnswer.__name__}"}}},
        }
        for status in statuses
    }


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
        for (method, path), rule in rules_of(app).items():
            operation = made["paths"].get(re.sub(r":path}", "}", path), {}).get(method.lower())
            if operation is not None:
                _describe(operation, rule, needs_key=needs_key)
        made.setdefault("components", {})["securitySchemes"] = _SCHEMES
        schemas = made["components"].setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas[ProblemAnswer.__name__] = ProblemAnswer.model_json_schema()
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
    refusals = {str(status): answer for status, answer in errors(401, 403).items()}
    operation["responses"] = dict(sorted((refusals | operation["responses"]).items()))
