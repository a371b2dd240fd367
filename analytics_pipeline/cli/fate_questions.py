"""Which messages `analytics fate --file` is asked about, one a line.

Belongs here: reading lines, any number of them. Does not belong here: the answers (`fate`).
"""

import json
from collections.abc import Iterator
from typing import IO, Any
from uuid import UUID

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.messages import Offset
from analytics_pipeline.events.times import parse_time
from analytics_pipeline.storage.fates_of_ids import EventKey, Question

_LONGEST_LINE = 65_536
_PLACE = 3
_LARGEST_PARTITION, _LARGEST_OFFSET = 2**31 - 1, 2**63 - 1
_FORMS = (
    "write `topic partition offset`, `id` or `id timestamp`, or a JSON object with these names; numbers are whole and "
    "not negative, an id is a UUID, a timestamp is ISO 8601 with a zone"
)


def portions(lines: IO[bytes], size: int) -> Iterator[list[Question]]:
    """Questions in the order of their lines, so many at once; blank lines are none.

    Raises:
        ConfigurationError: a line is no question; those before it have been handed out.
    """
    portion: list[Question] = []
    number = 0
    while line := lines.readline(_LONGEST_LINE):
        number += 1
        try:
            question = _question(line.decode("utf-8-sig").strip())
        except (ValueError, RecursionError, Rejected):
            if portion:
                yield portion
            raise ConfigurationError(f"--file: line {number} names no message: {_FORMS}") from None
        if question is not None:
            portion.append(question)
        if len(portion) == size:
            yield portion
            portion = []
    if portion:
        yield portion


def _question(line: str) -> Question | None:
    """Raises ValueError or Rejected where it is none."""
    if not line:
        return None
    if line.startswith("{"):
        return _of_object(json.loads(line))
    words = line.split()
    if len(words) == _PLACE:
        return _offset(words[0], _number(words[1]), _number(words[2]))
    if len(words) > _PLACE:
        raise ValueError
    return _key(*words)


def _of_object(found: dict[str, Any]) -> Question:
    """Where a report has both, its offset is exact; one without offset (null) goes by its id."""
    if found.get("offset") is not None:
        return _offset(found.get("topic"), found.get("partition"), found["offset"])
    return _key(found.get("id"), found.get("timestamp"))


def _offset(topic: object, partition: object, offset: object) -> Offset:
    if not isinstance(topic, str) or not topic or "\0" in topic:
        raise ValueError
    return Offset(topic, _up_to(_LARGEST_PARTITION, partition), _up_to(_LARGEST_OFFSET, offset))


def _up_to(most: int, number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
        raise ValueError
    return number


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise ValueError
    return int(word)


def _key(event_id: object, timestamp: object = None) -> EventKey:
    if not isinstance(event_id, str):
        raise ValueError
    return EventKey(UUID(event_id), None if timestamp is None else parse_time(timestamp))
