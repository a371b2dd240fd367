"""Definitions of custom event types: what may be registered.

Belongs here: reading a definition, and the documented shapes. Does not belong here: SQL (`repository`), judging
schemas (`analytics_pipeline.events.json_schema`) and events (`analytics_pipeline.events.definitions`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from analytics_pipeline.events.json_schema import MAX_BYTES, MAX_DEPTH, UnusableSchema, check_schema
from api.errors import BadRequest

_MOST_NAME = 255
_MOST_DESCRIPTION = 4_096
MOST_VERSION = 2**31 - 1
_DEFINED = frozenset({"name", "display_name", "description", "schema", "is_active"})
_ANSWERED = frozenset(
    {"id", "version", "created_at", "updated_at", "warnings", "would_have_refused", "metrics"}
)
"""Ignored in a definition, so that what was read, here or from the original service, can be sent."""
_CHANGED = frozenset({"display_name", "description", "schema", "version"})


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
        BadRequest: it is not an object with a usable name and a valid, self-contained JSON Schema, or says more.
    """
    content = _object(body)
    _refuse_others(content, _DEFINED, ignored=_ANSWERED)
    name = _text(content, "name", _MOST_NAME, required=True)
    is_active = content.get("is_active", True)
    if not isinstance(is_active, bool):
        raise bad_definition("must be true or false", "is_active")
    return Definition(
        name=name,
        display_name=_text(content, "display_name", _MOST_NAME),
        description=_text(content, "description", _MOST_DESCRIPTION, is_prose=True),
        schema=_schema(content.get("schema", {})),
        is_active=is_active,
    )


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a definition; None: as it is. `version` is the one that it is based on, if that is said."""

    display_name: str | None = None
    description: str | None = None
    schema: str | None = None
    is_active: bool | None = None
    version: int | None = None


def read_change(body: bytes) -> Change:
    """Read and judge a change.

    Raises:
        BadRequest: it changes nothing, or something that cannot be changed, or the schema may not be used.
    """
    content = _object(body)
    _refuse_others(content, _CHANGED)
    if not content.keys() - {"version"}:
        raise bad_definition("the body changes nothing")
    version = content.get("version")
    if "version" in content and not (type(version) is int and 1 <= version <= MOST_VERSION):
        raise bad_definition(f"must be a whole number from 1 to {MOST_VERSION}", "version")
    for field in ("display_name", "description"):
        if field in content and content[field] is None:
            raise bad_definition("must be text", field)
    return Change(
        display_name=_text(content, "display_name", _MOST_NAME) if "display_name" in content else None,
        description=_text(content, "description", _MOST_DESCRIPTION, is_prose=True)
        if "description" in content
        else None,
        schema=_schema(content["schema"]) if "schema" in content else None,
        version=version,
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad_definition("the body is not JSON") from None
    if not isinstance(content, dict):
        raise bad_definition("the body must be a JSON object")
    return content


def _refuse_others(
    content: dict[str, Any], known: frozenset[str], ignored: frozenset[str] = frozenset()
) -> None:
    # A misspelt `schema` would leave the old one in force, or accept everything.
    if not content.keys() <= known | ignored:
        raise bad_definition(f"the body has fields other than {', '.join(sorted(known))}")


def _schema(schema: object) -> str:
    try:
        return orjson.dumps(check_schema(schema)).decode()
    except UnusableSchema as error:
        raise bad_definition(str(error), "schema") from None
    except orjson.JSONEncodeError:
        raise bad_definition("cannot be written as JSON", "schema") from None


def _text(
    content: dict[str, Any], key: str, limit: int, *, required: bool = False, is_prose: bool = False
) -> str:
    value = content.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value.strip()):
        raise bad_definition(
            "is required"
            if value is None
            else "must be text that is not empty"
            if required
            else "must be text",
            key,
        )
    if len(value) > limit:
        raise bad_definition(f"is longer than {limit} characters", key)
    allowed = "\n\r\t" if is_prose else ""
    if any(
        (ord(character) < 32 and character not in allowed) or 127 <= ord(character) < 160
        for character in value
    ):
        raise bad_definition("has control characters", key)
    return value


def bad_definition(sentence: str, field: str | None = None) -> BadRequest:
    """The answer to a body that defines nothing."""
    return BadRequest(
        f"{field}: {sentence}" if field else sentence,
        kind="invalid-definition",
        title="Invalid request body",
        extra={"field": field} if field else None,
    )


class DefinitionBody(BaseModel):
    """A custom event type to define; fields that only answers have are ignored, others are refused."""

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


WARNINGS = Field(
    description="Keywords of the schema that JSON Schema does not know, and that look like typing errors.",
    examples=[["at #: requird is no keyword of JSON Schema and has no effect; did you mean required?"]],
)


class MadeAnswer(DefinitionAnswer):
    """A definition that was just stored."""

    warnings: list[str] = WARNINGS


class DefinitionsAnswer(BaseModel):
    """A page of definitions, by name."""

    custom_events: list[DefinitionAnswer]
    count: int = Field(description="How many are in this answer.", examples=[1])
    next_cursor: str | None = Field(description="Leads to the page behind this one; null: there is none.")


class ChangeBody(BaseModel):
    """What to change; fields left out stay as they are, `schema` is replaced as a whole."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1})

    display_name: str | SkipJsonSchema[None] = Field(default=None, max_length=_MOST_NAME)
    description: str | SkipJsonSchema[None] = Field(default=None, max_length=_MOST_DESCRIPTION)
    schema_: dict[str, Any] | SkipJsonSchema[None] = Field(default=None, alias="schema")
    version: int | SkipJsonSchema[None] = Field(
        default=None,
        ge=1,
        le=MOST_VERSION,
        description="The version that this is based on: 409 if it is another by now. If-Match says the same.",
    )


class VersionAnswer(BaseModel):
    """A schema that events of a type are, or were, judged by."""

    version: int = Field(examples=[2])
    schema_: dict[str, Any] = Field(alias="schema")
    created_at: datetime
    is_current: bool = Field(description="Whether the definition has this version now.")


class VersionsAnswer(BaseModel):
    """Versions, newest first; those of a deleted definition, too."""

    name: str = Field(examples=["custom.trading.signal"])
    versions: list[VersionAnswer]
    count: int = Field(description="How many are in this answer.", examples=[2])


CHANGE_EXAMPLE = {
    "schema": {
        "required": ["signal_strength"],
        "properties": {"signal_strength": {"type": "number"}, "strategy": {"type": "string"}},
    },
    "version": 1,
}

EXAMPLE = {
    "name": "custom.trading.signal",
    "display_name": "Trading Signal",
    "description": "Custom trading signal event",
    "schema": {"properties": {"signal_strength": {"type": "number"}, "strategy": {"type": "string"}}},
    "is_active": True,
}
