"""What any route may answer, and what every answer carries, for the OpenAPI document.

Belongs here: what the edge and the gate do to all routes alike, and examples made from the shapes.
Does not belong here: what one route answers (its declaration), putting the document together (`documentation`).
"""

from collections.abc import Mapping
from typing import Any

Operation = dict[str, Any]
Schemas = Mapping[str, Any]

_ANY_TEXT = "text"
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}


def _header(description: str, schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {"description": description, "schema": schema, "example": example}


COMMON_HEADERS = {
    "X-Request-ID": _header(
        "The one of the request, if it is safe to repeat, else a new one.", _TEXT, "8f14e45fceea-2a"
    ),
    "X-RateLimit-Limit": _header("Requests that may come at once after a rest: the burst.", _COUNT, 100),
    "X-RateLimit-Remaining": _header("Requests of these that may come at once now.", _COUNT, 99),
    "X-RateLimit-Reset": _header("Seconds until all of them may come at once again.", _COUNT, 1),
    "Server-Timing": _header(
        "Milliseconds until the answer began: `total`, and of it `cache`, `db`, `shared` (somebody else's read of the "
        "same) and `wait` (for `after`), as far as they apply.",
        _TEXT,
        "db;dur=6.120, total;dur=7.604",
    ),
}
RETRY_AFTER = {"Retry-After": _header("Seconds to wait before trying again.", _COUNT, 1)}
CHALLENGE = {"WWW-Authenticate": _header("The scheme that is read.", _TEXT, 'Bearer realm="b25-analytics"')}
CACHE_HEADERS = {
    "ETag": _header(
        "Changes when the answer does, or of metrics when the data of the days asked for does; for If-None-Match. Of "
        "metrics absent while the versions of the data are not known.",
        _TEXT,
        'W/"1-9f86d081884c7d65"',
    ),
    "Cache-Control": _header("Ask again, with If-None-Match.", _TEXT, "private, no-cache"),
    "X-Cache": _header("Whether the answer was at hand.", {"type": "string", "enum": ["hit", "miss"]}, "hit"),
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "ETags of answers at hand: 304 if one of them still holds.",
    "schema": _TEXT,
    "example": 'W/"1-9f86d081884c7d65"',
}

PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "dimension": {
        "description": "Name of a dimension.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 100},
        "example": "symbol",
    },
    "name": {
        "description": "An event type, percent-encoded, slashes too.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "example": "custom.trading.signal",
    },
    "version": {
        "description": "Number of a version.",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,9}$"},
        "example": "1",
    },
    "token": {
        "description": "Of the header X-Landing-Token.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 100},
        "example": "10000-0-1",
    },
    "id": {
        "description": "Of the event.",
        "schema": {"type": "string", "format": "uuid"},
        "example": "0197f2f0-6c5c-7d3e-8a4b-1c2d3e4f5a6b",
    },
    "letter_id": {
        "description": "Its `id`, a whole number.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 20},
        "example": "4711",
    },
    "key_id": {
        "description": "The part of a key between its underscores.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 64},
        "example": "4f1c20b7a9de",
    },
}


def statuses_of_edge(method: str, path: str, operation: Operation, *, unlimited: frozenset[str]) -> list[int]:
    """With which the edge refuses a request before its route sees it."""
    found = [] if path in unlimited else [429]
    if method not in {"get", "head"}:
        found += [403, 413, 415]
    return [*found, 408] if "requestBody" in operation else found


def describe_path(operation: Operation) -> None:
    """Say what its path parameters may be."""
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            parameter.update(PATH_PARAMETERS.get(parameter["name"], {}))
            parameter["schema"].pop("title", None)


NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "An answer named by If-None-Match still holds."}
}
"""Among the `responses` of a route that answers by `json_answer.conditional_answer`."""


def describe_cache(operation: Operation) -> None:
    """Say that answers are kept."""
    answers = operation["responses"]
    answers["200"]["headers"] = {**CACHE_HEADERS, **answers["200"].get("headers", {})}
    answers["304"] = dict(NOT_MODIFIED[304])


def describe_condition(operation: Operation) -> None:
    """Of what answers 304: say how to ask whether an answer still holds."""
    answers = operation["responses"]
    if "304" not in answers:
        return
    headers = {name: CACHE_HEADERS[name] for name in ("ETag", "Cache-Control")}
    answers["200"]["headers"] = {**headers, **answers["200"].get("headers", {})}
    answers["304"] = {**answers["304"], "headers": headers}
    operation.setdefault("parameters", []).append(IF_NONE_MATCH)


def add_headers(operation: Operation) -> None:
    """Say what every answer carries."""
    for status, answer in operation["responses"].items():
        added = dict(COMMON_HEADERS)
        if status == "401":
            added |= CHALLENGE
        if status == "429" or (status == "503" and "application/json" not in answer.get("content", {})):
            added |= RETRY_AFTER
        answer["headers"] = {**answer.get("headers", {}), **added}


def add_examples(
    operation: Operation, schemas: Schemas, true_answer: object = None, stream: str | None = None
) -> None:
    """Give every JSON answer that has none an example: of 200 the true one, if given, else made of its fields."""
    if stream is not None:
        shown = operation["responses"]["200"]["content"]
        operation["responses"]["200"] |= {
            "content": {kind: found | {"example": stream} for kind, found in shown.items()}
        }
    for status, answer in operation["responses"].items():
        content = answer.get("content", {}).get("application/json")
        if content is not None and status == "200" and true_answer is not None:
            content["example"] = true_answer
        if content is not None and "schema" in content and not {"example", "examples"} & content.keys():
            content["example"] = example_of(content["schema"], schemas)


def example_of(schema: Mapping[str, Any], schemas: Schemas) -> Any:
    """A value of this shape: its own example or default, else one made of the parts."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if schema.get("examples"):
        return schema["examples"][0]
    for keyword in ("const", "default"):
        if schema.get(keyword) is not None:
            return schema[keyword]
    if schema.get("enum"):
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return example_of(schema[keyword][0], schemas)
    return _example_of_type(schema, schemas)


def _example_of_type(schema: Mapping[str, Any], schemas: Schemas) -> Any:
    match schema.get("type"):
        case "object":
            made = {name: example_of(below, schemas) for name, below in schema.get("properties", {}).items()}
            required = schema.get("required", ())
            return {name: value for name, value in made.items() if name in required or value != _ANY_TEXT}
        case "array":
            return [example_of(schema["items"], schemas)] if "items" in schema else []
        case "integer":
            return max(1, schema.get("minimum", 1))
        case "number":
            return 1.5
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _FORMATS.get(schema.get("format", ""), _ANY_TEXT)


_FORMATS = {"date-time": "2026-01-31T12:00:00Z", "uuid": "0197f2f0-6c5c-7d3e-8a4b-1c2d3e4f5a6b"}
