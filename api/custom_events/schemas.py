"""Definitions of custom event types: what may be registered.

Belongs here: reading a definition, and the documented shapes. Does not belong here: SQL (`repository`), judging
schemas (`analytics_pipeline.events.json_schema`) and events (`analytics_pipeline.events.definitions`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel, Field

from analytics_pipeline.events.json_schema import MAX_BYTES, MAX_DEPTH, UnusableSchema, check_schema
from api.errors import BadRequest

_MOST_NAME = 255
_MOST_DESCRIPTION = 4_096


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
    try:
        return orjson.dumps(check_schema(schema)).decode()
    except UnusableSchema as error:
        raise _bad(str(error), "schema") from None
    except orjson.JSONEncodeError:
        raise _bad("cannot be written as JSON", "schema") from None


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
        f"{MAX_BYTES // 1024} KiB and {MAX_DEPTH} levels.",
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
