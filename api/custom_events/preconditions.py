"""Changing only what was seen: entity tags and versions of definitions.

Belongs here: making tags, reading `If-Match`, comparing. Does not belong here: SQL (`repository`), bodies (`schemas`).

A tag changes with every change; a version only with the schema.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from analytics_pipeline.events.times import micros
from api.errors import Conflict, HttpProblem, Problem

_ANY = "*"
_TAGS = re.compile(r'[ \t]*(?:W/)?"[^"]*"[ \t]*(?:,[ \t]*(?:W/)?"[^"]*"[ \t]*)*')
_STRONG = re.compile(r'(?<!W/)("[^"]*")')


def tag_of(version: int, updated_at: datetime) -> str:
    """The entity tag of a definition as it is now."""
    return f'"{version}-{micros(updated_at):x}"'


@dataclass(frozen=True, slots=True)
class Expected:
    """What a caller believes to change.

    Attributes:
        tags: one of these is it, or `*`; None: any.
        version: it is at this version; None: any.
    """

    tags: frozenset[str] | None = None
    version: int | None = None

    @property
    def is_said(self) -> bool:
        """Whether anything is expected at all."""
        return self.tags is not None or self.version is not None

    def check(self, version: int, updated_at: datetime) -> None:
        """Compare with what is stored.

        Raises:
            Problem: 412 for `If-Match`, 409 for the version.
        """
        if self.tags is not None and not self.tags & {_ANY, tag_of(version, updated_at)}:
            raise HttpProblem(
                412,
                "precondition-failed",
                "Precondition failed",
                "The definition was changed since this If-Match was seen; read it again.",
            )
        if self.version is not None and self.version != version:
            raise Conflict(
                f"The definition is at version {version}, not the one that this change is based on; read it again.",
                kind="version-conflict",
                title="Changed meanwhile",
                extra={"version": version},
            )


def read_if_match(values: Sequence[str], *, version: int | None = None) -> Expected:
    """The header's lines; a malformed one, and a weak tag, fit nothing."""
    if not values:
        return Expected(version=version)
    text = ",".join(values)
    if text.strip() == _ANY:
        return Expected(frozenset({_ANY}), version)
    tags = _STRONG.findall(text) if _TAGS.fullmatch(text) else ()
    return Expected(frozenset(tags), version)


def precondition_required() -> Problem:
    """The answer to a change that says not what it changes."""
    return HttpProblem(
        428,
        "precondition-required",
        "Precondition required",
        "Say what you change: If-Match with the ETag that you read, or `version` in the body; If-Match: * changes "
        "whatever is there.",
    )
