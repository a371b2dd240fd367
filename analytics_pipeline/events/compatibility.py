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


def report(definition: Definition, events: Iterable[StoredEvent], *, most_kinds: int = 10) -> Report:
    """Judge stored events by a definition that is not active yet; only the first problem of each is counted."""
    judged, oldest, newest = 0, None, None
    found: Counter[Violation] = Counter()
    for event in events:
        judged += 1
        oldest = event.timestamp if oldest is None else min(oldest, event.timestamp)
        newest = event.timestamp if newest is None else max(newest, event.timestamp)
        violation = definition.violation(_parse(event.properties))
        if violation is not None:
            kind = violation._replace(path=_INDEX.sub("[*]", violation.path))
            rest = Violation("$.properties", "other", "another problem")
            found[kind if kind in found or len(found) < _MOST_KINDS else rest] += 1
    kinds = [Kind(*violation, events) for violation, events in found.most_common(most_kinds)]
    return Report(judged, found.total(), kinds, oldest, newest)
