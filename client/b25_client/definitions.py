"""Definitions of custom event types.

Belongs here: requests and answers of `/api/v1/custom-events`. Does not belong here: events of these types.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from b25_client.request import Answer, Request, path_of, read_time

_PATH = ("api", "v1", "custom-events")


@dataclass(frozen=True, slots=True)
class Definition:
    """A custom event type.

    Attributes:
        schema: JSON Schema of the event's `properties`.
        is_active: whether events of this type are validated against it.
        version: which one this is, from 1.
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


def _read(answer: Answer) -> Definition:
    content = answer.json()
    return Definition(
        UUID(content["id"]),
        content["name"],
        content["display_name"],
        content["description"],
        content["schema"],
        content["is_active"],
        content["version"],
        read_time(content["created_at"]),
        read_time(content["updated_at"]),
    )
