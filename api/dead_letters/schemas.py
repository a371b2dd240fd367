"""Answers of `/api/v1/dead-letters`: the documented shapes, and bytes shown so that nothing acts on them.

Belongs here: shapes. Does not belong here: which letters (`filters`), SQL.
"""

import codecs
from base64 import b64encode
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.storage.dead_letters import Content, Group, Letter
from analytics_pipeline.storage.replays import Replayed
from api.dead_letters.filters import BODY_FIELDS
from api.parameters import Parameter

MOST_SHOWN = 2**20
MOST_TRIED = 10_000
MOST_DISCARDED = 10_000
MOST_NOTE = 500
LONGEST = 10.0
"""Seconds after which a replay begins no other batch."""

MAX_BYTES = Parameter(
    "max_bytes",
    f"Show at most this many bytes of key, of value and of each header; 0 to {MOST_SHOWN}. Default 65536.",
    65_536,
    (("type", "integer"), ("minimum", 0), ("maximum", MOST_SHOWN)),
)


class LetterAnswer(BaseModel):
    """A dead letter without its bytes."""

    id: int = Field(examples=[4711])
    source: str = Field(description="The topic, or `http`.", examples=["order.events"])
    partition: int = Field(examples=[3])
    offset: int | None = Field(description="In its partition; null for `http`.", examples=[88211])
    reason: str = Field(description="A code that is never renamed.", examples=["bad_user_id"])
    detail: str = Field(
        description="Where, and what; never a value.", examples=["$.user_id: must be a string"]
    )
    event_type: str | None = Field(
        description="Null where the message does not tell it.", examples=["order.placed"]
    )
    producer: str | None = Field(
        description="Who sent it, by the name in the message's headers; null where they give none.",
        examples=["order-execution"],
    )
    group: str = Field(
        description="The same for the same reason, place and shape.", examples=["5f0c0d9be7c3a1f2"]
    )
    status: Literal["open", "replayed", "discarded"] = Field(examples=["open"])
    attempts: int = Field(description="Replays so far.", examples=[0])
    created_at: datetime = Field(description="When it was written.")
    message_timestamp: datetime | None = Field(description="When its message reached the source.")
    attempted_at: datetime | None = Field(description="Of the last replay.")
    settled_at: datetime | None = Field(description="When it was replayed or discarded.")
    replay_batch_id: int | None = Field(description="The batch of the ledger that landed it.")
    note: str | None = Field(description="Why it was discarded.")
    size: int = Field(description="Bytes of its value.", examples=[214])


class LettersAnswer(BaseModel):
    """Dead letters, newest first."""

    dead_letters: list[LetterAnswer]
    count: int = Field(description="How many are in this answer.", examples=[1])
    next_cursor: str | None = Field(default=None, description="Leads to older ones; absent on the last page.")


class GroupAnswer(BaseModel):
    """Dead letters of one reason, place and shape; what is shown of one letter is of the newest."""

    group: str = Field(examples=["5f0c0d9be7c3a1f2"])
    reason: str = Field(examples=["bad_user_id"])
    event_type: str | None = Field(examples=["order.placed"])
    detail: str = Field(examples=["$.user_id: must be a string"])
    shape: str = Field(
        description="Names and types of the fields of the value.",
        examples=["{event_type: string, user_id: number}"],
    )
    producers: list[str] = Field(
        description="Who sent them, the one with the most letters first, at most 10.",
        examples=[["order-execution"]],
    )
    count: int = Field(description="Letters that match.", examples=[10312])
    open: int = Field(description="Those of them that are open.", examples=[10312])
    first_seen: datetime
    last_seen: datetime
    sample: int = Field(description="Id of the newest letter.", examples=[4711])


class GroupsAnswer(BaseModel):
    """Groups, the largest first."""

    groups: list[GroupAnswer]
    count: int = Field(description="How many are in this answer.", examples=[1])


class BytesAnswer(BaseModel):
    """Bytes as they came."""

    size: int = Field(description="All of them.", examples=[17])
    base64: str = Field(description="The first `max_bytes` of them.", examples=["eyJ1c2VyX2lkIjogMX0="])
    text: str | None = Field(
        description="The same as text; null where they are not UTF-8.", examples=['{"user_id": 1}']
    )
    is_cut: bool = Field(description="Whether there are more bytes than shown.", examples=[False])


class HeaderAnswer(BaseModel):
    """A header of the message. Headers hold credentials: the value is for keys with the scope `admin`."""

    name: str = Field(examples=["producer"])
    size: int | None = Field(description="Bytes of the value; null for a null value.", examples=[9])
    value: BytesAnswer | None = Field(description="Null for other keys, and for a null value.")


class WholeLetterAnswer(LetterAnswer):
    """A dead letter with its message."""

    meaning: str | None = Field(description="What the reason code says.")
    advice: str | None = Field(description="What the producer should do.")
    key: BytesAnswer | None
    value: BytesAnswer | None = Field(description="Null for a tombstone, and when the content has expired.")
    headers: list[HeaderAnswer]


class ReplayAnswer(BaseModel):
    """What became of the letters that were tried, or, of a dry run, would have."""

    dry_run: bool = Field(examples=[False])
    tried: int = Field(examples=[1200])
    stored: int = Field(description="Whose event is stored now.", examples=[1180])
    duplicate: int = Field(
        description="Whose event was stored already; 0 in a dry run, which counts them as stored.",
        examples=[5],
    )
    still_bad: dict[str, int] = Field(
        description="Those that stay open, by their new reason.", examples=[{"schema_violation": 15}]
    )
    busy: int = Field(
        description="Held by another replay at this moment, and left to it: ask again.", examples=[0]
    )
    next_after: int | None = Field(
        description="Not all were tried: send the same with this as `after` for the next ones. Null: all were.",
        examples=[None],
    )


class DiscardAnswer(BaseModel):
    """How many were, or would be, discarded."""

    dry_run: bool = Field(examples=[False])
    discarded: int = Field(
        description="Of a dry run: open letters that match, however many.", examples=[1200]
    )
    has_more: bool = Field(
        description="Whether there may be more: send the same once more.", examples=[False]
    )


_DRY_RUN = {"type": "boolean", "default": False, "description": "Say what it would do, change nothing."}
REPLAY_FIELDS: dict[str, Any] = BODY_FIELDS | {
    "dry_run": _DRY_RUN,
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST_TRIED,
        "default": MOST_TRIED,
        "description": "Try at most this many.",
    },
    "after": {"type": "integer", "minimum": 0, "default": 0, "description": "Only letters of greater ids."},
}
DISCARD_FIELDS: dict[str, Any] = BODY_FIELDS | {
    "note": {"type": "string", "minLength": 1, "maxLength": MOST_NOTE, "description": "Why; kept with them."},
    "dry_run": _DRY_RUN,
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST_DISCARDED,
        "default": MOST_DISCARDED,
        "description": "Discard at most this many, the oldest first.",
    },
}
REPLAY_EXAMPLE = {"reasons": ["schema_violation"], "event_types": ["order.placed"], "dry_run": True}
DISCARD_EXAMPLE = {
    "sources": ["order.events"],
    "end_time": "2026-05-04T00:00:00Z",
    "note": "load test of 3 May",
}


def object_body(fields: dict[str, Any], example: dict[str, Any], *required: str) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a JSON object of these fields."""
    schema: dict[str, Any] = {"type": "object", "properties": fields, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    }


EXPORT_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One JSON object a line, the oldest letter first; every byte of its message in base64.",
        "content": {
            "application/x-ndjson": {
                "schema": {"type": "string"},
                "example": '{"id": 4711, "source": "order.events", "partition": 3, "offset": 88211, "reason": '
                '"bad_user_id", "value_base64": "eyJ1c2VyX2lkIjogMX0=", "headers_base64": null}\n',
            }
        },
    }
}


def letter_content(letter: Letter, content: Content, most: int, *, has_headers: bool) -> dict[str, Any]:
    """One letter in full; values of headers only where `has_headers`."""
    reason = Reason(letter.reason) if letter.reason in set(Reason) else None
    return {
        **plain(letter),
        "meaning": None if reason is None else reason.meaning,
        "advice": None if reason is None else reason.advice,
        "key": _shown(content.key, most),
        "value": _shown(content.value, most),
        "headers": [
            {
                "name": name.encode("utf-8", "backslashreplace").decode(),
                "size": None if value is None else len(value),
                "value": _shown(value, most) if has_headers else None,
            }
            for name, value in content.headers
        ],
    }


def plain(row: Letter | Group) -> dict[str, Any]:
    """By name, in order."""
    return {name: getattr(row, name) for name in row.__slots__}


def replay_content(done: Replayed, *, is_dry_run: bool, has_more: bool) -> dict[str, Any]:
    """What a replay did."""
    return {
        "dry_run": is_dry_run,
        "tried": done.tried,
        "stored": done.stored,
        "duplicate": done.duplicate,
        "still_bad": dict(sorted(done.still_bad.items())),
        "busy": done.busy,
        "next_after": done.reached if has_more else None,
    }


def _shown(value: bytes | None, most: int) -> dict[str, Any] | None:
    if value is None:
        return None
    part = value[:most]
    return {
        "size": len(value),
        "base64": b64encode(part).decode(),
        "text": _text(part, is_cut=len(part) < len(value)),
        "is_cut": len(part) < len(value),
    }


def _text(part: bytes, *, is_cut: bool) -> str | None:
    """As UTF-8, without the beginning of a character that was cut through."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(part, final=not is_cut)
    except UnicodeDecodeError:
        return None
