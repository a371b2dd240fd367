"""The OpenAPI document: error answers that every route shares, and the page that shows it.

Belongs here: descriptions. Does not belong here: the shapes of one feature (its `schemas`).
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from api.errors import MEDIA_TYPE, TYPE_PREFIX

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
    403: "A browser sent this from another site.",
    404: "There is nothing of that name.",
    409: "It exists already.",
    413: "The body is longer than server.max_body_size.",
    415: "The body has a content type or a compression that is not read.",
    422: "The Idempotency-Key belongs to another request.",
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


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once: routes read their input themselves, so FastAPI's own 422 never happens."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for methods in made["paths"].values():
            for operation in methods.values():
                if MEDIA_TYPE not in operation["responses"].get("422", {}).get("content", {}):
                    operation["responses"].pop("422", None)
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas[ProblemAnswer.__name__] = ProblemAnswer.model_json_schema()
        app.openapi_schema = made
    return app.openapi_schema
