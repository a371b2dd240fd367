"""Definitions of custom event types: what may be registered.

Belongs here: reading and judging a definition, and the documented shapes. Does not belong here: SQL
(`repository`), judging events (`analytics_pipeline.events.definitions`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import jsonschema_rs
import orjson
from pydantic import BaseModel, Field

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.definitions import compile_definition
from api.errors import BadRequest

MAX_SCHEMA_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 20
MAX_NODES = 5_000
_MOST_NAME = 255
_MOST_DESCRIPTION = 4_096
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition as it came, checked; `schema` is JSON text."""

    name: str
    display_name: str
    description: str
    schema: str
    is_active: bool


def read_definition(body: bytes) -> Definition:
    """Read and judge a definition.

    Raises:
        BadRequest: it is not an object with a usable name and a valid, self-contained JSON Schema.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _bad("the body is not JSON") from None
    if not isinstance(content, dict):
        raise _bad("the body must be a JSON object")
    name = _text(content, "name", _MOST_NAME, required=True)
    is_active = content.get("is_active", True)
    if not isinstance(is_active, bool):
        raise _bad("must be true or false", "is_active")
    return Definition(
        name=name,
        display_name=_text(content, "display_name", _MOST_NAME),
        description=_text(content, "description", _MOST_DESCRIPTION, is_prose=True),
        schema=_schema(content.get("schema", {})),
        is_active=is_active,
    )


def _schema(schema: object) -> str:
    if not isinstance(schema, dict):
        raise _bad("must be a JSON Schema, written as an object", "schema")
    for depth, (nodes, (key, value)) in _members(schema):
        if depth > MAX_SCHEMA_DEPTH:
            raise _bad(f"is nested deeper than {MAX_SCHEMA_DEPTH} levels", "schema")
        if nodes > MAX_NODES:
            raise _bad(f"has more than {MAX_NODES} members", "schema")
        if "\0" in key or (isinstance(value, str) and "\0" in value):
            raise _bad("has a NUL character", "schema")
        # A property may be called $ref; only the keyword has text.
        if key in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
            raise _bad("may refer to itself only: references begin with #", "schema")
        if key == "$id" and isinstance(value, str) and ":" in value:
            raise _bad("may not have an $id with a URL", "schema")
    try:
        text = orjson.dumps(schema).decode()
    except orjson.JSONEncodeError:
        raise _bad("cannot be written as JSON", "schema") from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise _bad(f"is longer than {MAX_SCHEMA_BYTES} bytes", "schema")
    try:
        jsonschema_rs.meta.validate(schema)
        compile_definition("of this request", 1, schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ConfigurationError, ValueError):
        raise _bad(
            "is not a valid JSON Schema, refers to something it does not hold, or has a pattern with "
            "look-around or back-references",
            "schema",
        ) from None
    return text


def _members(schema: dict[str, Any]) -> Iterator[tuple[int, tuple[int, tuple[str, object]]]]:
    """All members of all objects with their depth, without recursion; numbered."""
    number = 0
    waiting: list[tuple[int, object]] = [(1, schema)]
    while waiting:
        depth, node = waiting.pop()
        if isinstance(node, dict):
            for key, value in node.items():
                number += 1
                yield depth, (number, (key, value))
                waiting.append((depth + 1, value))
        elif isinstance(node, list):
            for value in node:
                number += 1
                yield depth, (number, ("", value))
                waiting.append((depth + 1, value))


def _text(
    content: dict[str, Any], key: str, limit: int, *, required: bool = False, is_prose: bool = False
) -> str:
    value = content.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value.strip()):
        raise _bad(
            "is required"
            if value is None
            else "must be text that is not empty"
            if required
            else "must be text",
            key,
        )
    if len(value) > limit:
        raise _bad(f"is longer than {limit} characters", key)
    allowed = "\n\r\t" if is_prose else ""
    if any(
        (ord(character) < 32 and character not in allowed) or 127 <= ord(character) < 160
        for character in value
    ):
        raise _bad("has control characters", key)
    return value


def _bad(sentence: str, field: str | None = None) -> BadRequest:
    return BadRequest(
        f"{field}: {sentence}" if field else sentence,
        kind="invalid-definition",
        title="Invalid request body",
        extra={"field": field} if field else None,
    )


class DefinitionBody(BaseModel):
    """A custom event type to define."""

    name: str = Field(min_length=1, max_length=_MOST_NAME, examples=["custom.trading.signal"])
    display_name: str = Field(default="", max_length=_MOST_NAME, examples=["Trading Signal"])
    description: str = Field(
        default="", max_length=_MOST_DESCRIPTION, examples=["Custom trading signal event"]
    )
    schema_: dict[str, Any] = Field(
        default={},
        alias="schema",
        description="JSON Schema of the event's `properties`; references inside it (`#…`) only, at most "
        f"{MAX_SCHEMA_BYTES // 1024} KiB and {MAX_SCHEMA_DEPTH} levels.",
    )
    is_active: bool = Field(default=True, description="Whether events of this type are validated against it.")


class DefinitionAnswer(DefinitionBody):
    """A stored definition."""

    id: UUID
    version: int = Field(examples=[1])
    created_at: datetime
    updated_at: datetime


EXAMPLE = {
    "name": "custom.trading.signal",
    "display_name": "Trading Signal",
    "description": "Custom trading signal event",
    "schema": {"properties": {"signal_strength": {"type": "number"}, "strategy": {"type": "string"}}},
    "is_active": True,
}
