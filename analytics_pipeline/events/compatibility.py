"""What a new schema would do to events that are stored already.

Belongs here: judging them and summing up. Does not belong here: reading them (`storage.definitions`).
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec

from analytics_pipeline.events.definitions import Definition, Violation

_INDEX = re.compile(r"\[\d+\]")
_MOST_KINDS = 1_000
_parse = msgspec.json.Decoder().decode


class StoredEvent(NamedTuple):
    """As much of an event as a definition judges; `properties` is JSON text."""

    timestamp: datetime
    properties: str


class Kind(NamedTuple):
    """A way to be refused: where, by which keyword, and how many events; elements of arrays count as one place."""

    path: str
    keyword: str
    sentence: str
    events: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a schema would have done to the events judged, `oldest` to `newest`; the most frequent kinds first."""

    judged: int
    refused: int
    kinds: list[Kind]
    oldest: datetime | None
    newest: datetime | None

    @property
    def is_compatible(self) -> bool:
        """Whether it would have refused none of them."""
        return self.refused == 0


class Survey:
    """Judges stored events, as they are read, by a definition that is not active yet."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._found: Counter[Violation] = Counter()
        self._oldest: datetime | None = None
        self._newest: datetime | None = None
        self.judged = 0

    def judge(self, events: Iterable[StoredEvent]) -> None:
        """Judge more of them; only the first problem of each is counted."""
        for event in events:
            self.judged += 1
            self._oldest = event.timestamp if self._oldest is None else min(self._oldest, event.timestamp)
            self._newest = event.timestamp if self._newest is None else max(self._newest, event.timestamp)
            violation = self._definition.violation(_parse(event.properties))
            if violation is not None:
                self._note(violation._replace(path=_INDEX.sub("[*]", violation.path)))

    def report(self, *, most_kinds: int = 10) -> Report:
        """What was found so far."""
        kinds = [Kind(*violation, events) for violation, events in self._found.most_common(most_kinds)]
        return Report(self.judged, self._found.total(), kinds, self._oldest, self._newest)

    def _note(self, kind: Violation) -> None:
        rest = Violation("$.properties", "other", "another problem")
        self._found[kind if kind in self._found or len(self._found) < _MOST_KINDS else rest] += 1


def report(definition: Definition, events: Iterable[StoredEvent], *, most_kinds: int = 10) -> Report:
    """What a definition would have done to these events."""
    survey = Survey(definition)
    survey.judge(events)
    return survey.report(most_kinds=most_kinds)
