"""Definitions of custom event types: making and changing them, their versions, and trying them.

Belongs here: requests and answers of `/api/v1/custom-events` and below. Does not belong here: events of these types.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from b25_client.request import Answer, Page, Request, path_of, read_record, write_body

_PATH = ("api", "v1", "custom-events")
_VERSIONS = 100
"""Versions of a page."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A way in which a schema refuses events, and how many of them: where, by which keyword, in words."""

    path: str
    keyword: str
    sentence: str
    events: int


@dataclass(frozen=True, slots=True)
class Compatibility:
    """What a schema would have done to stored events of its type.

    Attributes:
        is_compatible: whether it would have refused none of those judged.
        is_complete: whether all asked for were judged in time.
        judged: how many were.
        refused: how many of these it refuses.
        kinds: the most frequent ways, at most ten.
        oldest: timestamp of the oldest event judged.
        newest: of the newest.
        warnings: keywords of the schema that look like typing errors; told by `custom_event_compatibility`.
    """

    name: str
    is_compatible: bool
    is_complete: bool
    judged: int
    refused: int
    kinds: tuple[Refusal, ...]
    oldest: datetime | None
    newest: datetime | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricChanges:
    """Names of the automatic metrics that come and go with another schema."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """A custom event type.

    Attributes:
        schema: JSON Schema of the event's `properties`.
        is_active: whether events of this type are validated against it.
        version: which one this is, from 1; another schema is another version.
        etag: names this state, also of its texts: as `if_match` of a change it refuses to undo somebody else's. None in
            lists, which do not tell it.
        would_have_refused: after a change of the schema, what it would have done to the 10,000 newest stored events.
        warnings: after a definition was made or changed, keywords of its schema that look like typing errors.
        metrics: after a change of the schema, which metrics of numeric properties come and go.
    """

    id: UUID
    name: str
    display_name: str
    description: str
    schema: Mapping[str, Any]
    is_active: bool
    version: int
    created_at: datetime
    updated_at: datetime
    etag: str | None = None
    would_have_refused: Compatibility | None = None
    warnings: tuple[str, ...] = ()
    metrics: MetricChanges | None = None


@dataclass(frozen=True, slots=True)
class DefinitionVersion:
    """A schema that events of a type are, or were, judged by; `is_current`: the definition has it now."""

    version: int
    schema: Mapping[str, Any]
    created_at: datetime
    is_current: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """What would become of an event, in the words of a dead letter.

    Attributes:
        is_valid: whether it would be stored.
        reason: code, as of dead letters; None if it is valid.
        path: where in the event.
        detail: what is wrong there, never a value.
        version: that judged; of a schema that was given, the one that it would become.
        warnings: keywords of the schema that look like typing errors.
    """

    is_valid: bool
    reason: str | None
    path: str | None
    detail: str | None
    version: int
    warnings: tuple[str, ...] = ()


def create_request(
    name: str,
    schema: Mapping[str, Any],
    *,
    display_name: str,
    description: str,
    is_active: bool,
) -> Request[Definition]:
    """Define an event type."""
    body = {
        "name": name,
        "display_name": display_name,
        "description": description,
        "schema": dict(schema),
        "is_active": is_active,
    }
    return Request(path_of(*_PATH), _read, body=body, answers=frozenset({201}))


def definition_request(name: str) -> Request[Definition]:
    """Ask for a definition."""
    return Request(path_of(*_PATH, name), _read)


def list_request(
    cursor: str | None, *, is_active: bool | None, prefix: str | None, limit: int | None
) -> Request[Page[Definition]]:
    """Ask for a page of definitions, by name."""
    asked = {
        "is_active": None if is_active is None else str(is_active).lower(),
        "prefix": prefix,
        "limit": limit,
        "cursor": cursor,
    }
    parameters = [(key, str(value)) for key, value in asked.items() if value is not None]
    return Request(path_of(*_PATH), _read_list, parameters)


def change_request(
    name: str,
    *,
    schema: Mapping[str, Any] | None,
    display_name: str | None,
    description: str | None,
    version: int | None,
    if_match: str | None,
) -> Request[Definition]:
    """Change a definition."""
    body = write_body(
        {
            "schema": None if schema is None else dict(schema),
            "display_name": display_name,
            "description": description,
            "version": version,
        }
    )
    return Request(path_of(*_PATH, name), _read_change, body=body, verb="PATCH", headers=_if_match(if_match))


def activity_request(name: str, *, is_active: bool, if_match: str | None) -> Request[Definition]:
    """Let a definition judge events, or let them pass."""
    path = path_of(*_PATH, name, "activate" if is_active else "deactivate")
    return Request(path, _read, verb="POST", headers=_if_match(if_match))


def delete_request(name: str, *, if_match: str | None) -> Request[None]:
    """Delete a definition."""
    return Request(
        path_of(*_PATH, name),
        lambda _: None,
        verb="DELETE",
        headers=_if_match(if_match),
        answers=frozenset({204}),
    )


def versions_request(name: str, cursor: str | None) -> Request[Page[DefinitionVersion]]:
    """Ask for a page of versions, newest first, before the one that `cursor` names."""
    parameters = [("limit", str(_VERSIONS)), *([("before", cursor)] if cursor else [])]
    return Request(path_of(*_PATH, name, "versions"), _read_versions, parameters)


def version_request(name: str, version: int) -> Request[DefinitionVersion]:
    """Ask for one version."""
    path = path_of(*_PATH, name, "versions", str(version))
    return Request(path, lambda answer: read_record(DefinitionVersion, answer.json()))


def compatibility_request(
    name: str, *, schema: Mapping[str, Any] | None, last: int | None
) -> Request[Compatibility]:
    """Ask what a schema would have done to stored events."""
    body = write_body({"schema": None if schema is None else dict(schema), "last": last})
    path = path_of(*_PATH, name, "compatibility")
    return Request(path, _read_compatibility, body=body, is_read=True)


def trial_request(
    name: str, event: object, *, schema: Mapping[str, Any] | None, version: int | None
) -> Request[Trial]:
    """Ask what would become of an event."""
    body = write_body({"schema": None if schema is None else dict(schema), "version": version})
    path = path_of(*_PATH, name, "validate")
    return Request(
        path, lambda answer: read_record(Trial, answer.json()), body={"event": event, **body}, is_read=True
    )


def _if_match(tag: str | None) -> dict[str, str]:
    return {} if tag is None else {"If-Match": tag}


def _read(answer: Answer) -> Definition:
    return read_record(Definition, answer.json(), etag=answer.headers.get("etag"))


def _read_change(answer: Answer) -> Definition:
    content = answer.json()
    report = content.get("would_have_refused")
    refused = None if report is None else _compatibility(report)
    told = content.get("metrics")
    metrics = None if told is None else MetricChanges(tuple(told["added"]), tuple(told["removed"]))
    return read_record(
        Definition,
        content,
        etag=answer.headers.get("etag"),
        would_have_refused=refused,
        metrics=metrics,
    )


def _read_list(answer: Answer) -> Page[Definition]:
    content = answer.json()
    found = tuple(read_record(Definition, one) for one in content["custom_events"])
    return Page(found, content["next_cursor"])


def _read_versions(answer: Answer) -> Page[DefinitionVersion]:
    found = tuple(read_record(DefinitionVersion, one) for one in answer.json()["versions"])
    has_more = len(found) == _VERSIONS and found[-1].version > 1
    return Page(found, str(found[-1].version) if has_more else None)


def _read_compatibility(answer: Answer) -> Compatibility:
    return _compatibility(answer.json())


def _compatibility(content: Mapping[str, Any]) -> Compatibility:
    kinds = tuple(read_record(Refusal, one) for one in content["kinds"])
    return read_record(Compatibility, content, kinds=kinds)
