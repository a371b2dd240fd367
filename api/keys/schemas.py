"""Questions and answers of `/api/v1/keys` and `/api/v1/session`: the documented shapes, and reading a body.

Belongs here: shapes. Does not belong here: what a key may be (`analytics_pipeline.storage.api_keys`), SQL.
"""

from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.storage.api_keys import MOST_NAME, NewKey, new_key
from api.errors import BadRequest
from api.times import parse_time

Scope = Literal["read", "write", "admin"]


class KeyBody(BaseModel):
    """A key to make."""

    name: str = Field(min_length=1, max_length=MOST_NAME, examples=["terminal of desk 3"])
    scopes: list[Scope] = Field(
        min_length=1,
        description="`read` and `write` do not include each other; `admin` includes both.",
        examples=[["read"]],
    )
    expires_at: datetime | None = Field(default=None, description="Never, if absent.")
    event_types: list[str] | None = Field(
        default=None,
        description="The key sees and sends events of these types only; `order.*` is all that begin so.",
        examples=[["order.*"]],
    )
    dimensions: dict[str, list[str]] = Field(
        default={},
        description="Per property the values that the key sees and sends.",
        examples=[{"strategy_id": ["momentum-3"]}],
    )


class KeyAnswer(BaseModel):
    """A key as it is kept: never the key itself."""

    id: str = Field(examples=["4f1c20b7a9de"])
    name: str = Field(examples=["terminal of desk 3"])
    state: Literal["active", "expired", "revoked"]
    scopes: list[Scope] = Field(examples=[["read"]])
    event_types: list[str] | None = Field(examples=[["order.*"]])
    dimensions: dict[str, list[str]] = Field(examples=[{"strategy_id": ["momentum-3"]}])
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")


class MadeKeyAnswer(KeyAnswer):
    """A new key, shown this once."""

    key: str = Field(
        description="Goes into `X-API-Key`. It is stored nowhere: keep it.",
        examples=["b25_4f1c20b7a9de_5d41402abc4b2a76b9719d911017c592ae5d41402abc4b2a"],
    )


class KeysAnswer(BaseModel):
    """All keys, oldest first."""

    keys: list[KeyAnswer]


class SessionAnswer(BaseModel):
    """Who is there."""

    key_id: str | None = Field(description="Null: anonymous.", examples=["4f1c20b7a9de"])
    scopes: list[Scope] = Field(examples=[["read"]])
    csrf_token: str | None = Field(description="For `X-CSRF-Token` of every write; null without a cookie.")


EXAMPLE = {
    "name": "terminal of desk 3",
    "scopes": ["read"],
    "event_types": ["order.*"],
    "dimensions": {"strategy_id": ["momentum-3"]},
}
_FIELDS = set(KeyBody.model_fields)


def read_key(body: bytes, now: datetime) -> NewKey:
    """Make a key as the body asks.

    Raises:
        BadRequest: it asks for none that can be.
    """
    content = _object(body)
    try:
        return new_key(
            _text(content.get("name")),
            _texts(content.get("scopes"), "scopes"),
            now=now,
            expires_at=_time(content.get("expires_at")),
            event_types=_types(content),
            dimensions=_dimensions(content),
        )
    except ConfigurationError as error:
        raise _bad("; ".join(error.problems)) from None


def _types(content: dict[str, Any]) -> list[str] | None:
    given = content.get("event_types")
    if given == []:
        raise _bad("event_types: name at least one, or leave it out for all")
    return None if given is None else _texts(given, "event_types")


def _dimensions(content: dict[str, Any]) -> dict[str, list[str]]:
    given = content.get("dimensions") or {}
    if not isinstance(given, dict):
        raise _bad("dimensions: an object, with a list of values per property")
    return {name: _texts(values, "dimensions") for name, values in given.items()}


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _bad("the body is not JSON") from None
    if not isinstance(content, dict):
        raise _bad("the body must be a JSON object")
    if not content.keys() <= _FIELDS:
        # A misspelt `dimensions` would make a key that sees everything.
        raise _bad(f"the body has fields other than {', '.join(KeyBody.model_fields)}")
    return content


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _bad("name: is required, as text")
    return value


def _texts(value: object, field: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _bad(f"{field}: a list of texts")
    return value


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _bad("expires_at: a time as text, RFC 3339 with a zone")
    try:
        return parse_time(value)
    except ValueError as error:
        raise _bad(f"expires_at: {error}") from None


def _bad(sentence: str) -> BadRequest:
    return BadRequest(sentence, kind="invalid-key", title="Invalid request body")
