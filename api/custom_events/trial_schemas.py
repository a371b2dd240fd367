"""Questions and answers about what a schema would do: the documented shapes, and reading a body.

Belongs here: shapes. Does not belong here: judging (`trials`), definitions themselves (`schemas`).

An event inside a body stays the bytes that it is: what is wrong with it is what is asked.
"""

from datetime import datetime
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from analytics_pipeline.events.json_schema import Schema, UnusableSchema, check_schema, read_schema
from analytics_pipeline.events.reasons import Reason
from api.custom_events.schemas import MOST_VERSION, WARNINGS, MadeAnswer, bad_definition
from api.errors import BadRequest

MOST_EVENTS = 100_000
USUAL_EVENTS = 10_000


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    schema: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_Kind = TypeVar("_Kind", bound=_Body)


class _TrialBody(_Body):
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    version: int | msgspec.UnsetType = msgspec.UNSET


class _SurveyBody(_Body):
    last: int = USUAL_EVENTS


class Trial(msgspec.Struct, frozen=True):
    """An event to judge: by the schema, by a version, or by the definition as it is."""

    event: bytes
    schema: Schema | None
    version: int | None


class Wanted(msgspec.Struct, frozen=True):
    """Stored events to judge: the `last` newest ones, by the schema or by the definition as it is."""

    schema: Schema | None
    last: int


def read_trial(body: bytes) -> Trial:
    """Read the body of a try-out.

    Raises:
        BadRequest: there is no event in it, or the schema may not be used.
    """
    content = _decode(body, _TrialBody, "event, schema, version")
    if content.event is msgspec.UNSET:
        raise bad_definition("is required", "event")
    schema = _schema(content)
    version = None if content.version is msgspec.UNSET else content.version
    if version is not None and not 1 <= version <= MOST_VERSION:
        raise bad_definition(f"must be a whole number from 1 to {MOST_VERSION}", "version")
    if schema is not None and version is not None:
        raise bad_definition("give a schema or a version, not both", "version")
    return Trial(bytes(content.event), schema, version)


def read_wanted(body: bytes) -> Wanted:
    """Read the body of a compatibility report; an empty one asks for the definition as it is.

    Raises:
        BadRequest: the number cannot be meant, or the schema may not be used.
    """
    content = _decode(body or b"{}", _SurveyBody, "schema, last")
    if not 1 <= content.last <= MOST_EVENTS:
        raise bad_definition(f"must be a whole number from 1 to {MOST_EVENTS}", "last")
    return Wanted(_schema(content), content.last)


def _decode(body: bytes, kind: type[_Kind], fields: str) -> _Kind:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        raise bad_definition(f"the body must be a JSON object with the fields {fields}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_definition("the body is not JSON") from None


def _schema(body: _Body) -> Schema | None:
    if body.schema is msgspec.UNSET:
        return None
    try:
        return check_schema(read_schema(bytes(body.schema)))
    except UnusableSchema as error:
        raise bad_definition(str(error), "schema") from None


def wrong_type() -> BadRequest:
    """The answer to an event that another definition judges."""
    return bad_definition("its event_type is not the name in the path", "event")


class TrialBody(BaseModel):
    """An event to try; nothing is stored."""

    model_config = ConfigDict(extra="forbid")

    event: Any = Field(description="As it would be posted, or sent to a topic.")
    schema_: dict[str, Any] | SkipJsonSchema[None] = Field(
        default=None, alias="schema", description="Judge by this schema instead of the stored one."
    )
    version: int | SkipJsonSchema[None] = Field(
        default=None, ge=1, le=MOST_VERSION, description="Judge by this version of the definition."
    )


class TrialAnswer(BaseModel):
    """What would become of the event, in the words of a dead letter."""

    is_valid: bool = Field(examples=[False])
    reason: Reason | None = Field(
        description="Null: it would be stored; else a reason code, as of dead letters.",
        examples=["schema_violation"],
    )
    path: str | None = Field(description="Where in the event.", examples=["$.properties.signal_strength"])
    detail: str | None = Field(examples=["version 1: must be number"])
    version: int = Field(
        description="That judged; of a schema in the body, the one that it would become.", examples=[1]
    )
    warnings: list[str] = WARNINGS


class SurveyBody(BaseModel):
    """A schema to try on stored events; nothing is changed."""

    model_config = ConfigDict(extra="forbid")

    schema_: dict[str, Any] | SkipJsonSchema[None] = Field(
        default=None, alias="schema", description="Default: the definition as it is."
    )
    last: int = Field(
        default=USUAL_EVENTS, ge=1, le=MOST_EVENTS, description="How many of the newest stored events."
    )


class KindAnswer(BaseModel):
    """A way to be refused."""

    path: str = Field(
        description="Elements of arrays count as one place.", examples=["$.properties.signal_strength"]
    )
    keyword: str = Field(description="Of JSON Schema.", examples=["required"])
    sentence: str = Field(examples=["the required property signal_strength is missing"])
    events: int = Field(examples=[3])


class SurveyAnswer(BaseModel):
    """What the schema would have done to stored events of the type."""

    name: str = Field(examples=["custom.trading.signal"])
    is_compatible: bool = Field(
        description="Whether it would have refused none of those judged.", examples=[False]
    )
    is_complete: bool = Field(description="Whether all asked for were judged within analytics.query.timeout.")
    judged: int = Field(examples=[10000])
    refused: int = Field(examples=[3])
    kinds: list[KindAnswer] = Field(description="The most frequent ways to be refused, at most ten.")
    oldest: datetime | None = Field(description="Timestamp of the oldest event judged.")
    newest: datetime | None


class CompatibilityAnswer(SurveyAnswer):
    """The same, and what is noticed about the schema itself."""

    warnings: list[str] = WARNINGS


class MetricChangesAnswer(BaseModel):
    """Automatic metrics that come and go."""

    added: list[str] = Field(examples=[["custom.custom.trading.signal.signal_strength"]])
    removed: list[str] = Field(examples=[[]])


class ChangeAnswer(MadeAnswer):
    """The definition as it is now."""

    would_have_refused: SurveyAnswer | None = Field(
        description="What the new schema would have done to the newest "
        f"{USUAL_EVENTS:,} stored events of the type; it is in force all the same. Null: no schema was given."
    )
    metrics: MetricChangesAnswer | None = Field(
        description="Metrics of numeric properties that come and go with the new schema; null: no schema was given."
    )


TRIAL_EXAMPLE = {
    "event": {"event_type": "custom.trading.signal", "properties": {"signal_strength": "strong"}}
}
SURVEY_EXAMPLE = {
    "schema": {"required": ["strategy"], "properties": {"strategy": {"type": "string"}}},
    "last": 10000,
}
