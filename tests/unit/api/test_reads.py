"""Questions kept to be asked again: for their second, and not the large ones."""

from datetime import UTC, date, datetime, timedelta
from typing import cast

from analytics_pipeline.events.reach import EVERYTHING, Reach
from api.arrivals import Arrivals
from api.cache import Answer, Cache, Question
from api.reads import CachedReads

PATH = "/path"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Asked:
    """Reads at a time that a test sets."""

    def __init__(self) -> None:
        self.now = NOON
        self.built: list[bytes] = []
        self.reads = CachedReads(
            cast("Cache", None), lambda: self.now, {PATH: self._build}, cast("Arrivals", None)
        )

    def _build(self, query_string: bytes, _now: datetime, _reach: Reach) -> Question:
        self.built.append(query_string)
        is_large = query_string.startswith(b"large")
        return Question(query_string.decode(), date.min, date.max, _nothing, is_large=is_large)

    def ask(self, query_string: bytes) -> None:
        self.reads.question(PATH, query_string, EVERYTHING)


async def _nothing(_database: object) -> Answer:
    return Answer(b"", b"")


def test_a_question_is_understood_once_a_second() -> None:
    asked = Asked()
    for _ in range(3):
        asked.ask(b"a")
        asked.ask(b"b")
    assert asked.built == [b"a", b"b"]
    asked.now += timedelta(seconds=1)
    asked.ask(b"a")
    assert asked.built == [b"a", b"b", b"a"]
    # What was asked in the second before is of no use to anybody.
    assert list(asked.reads._memos) == [(PATH, b"a", EVERYTHING.canonical)]


def test_large_questions_are_not_kept() -> None:
    asked = Asked()
    for _ in range(2):
        asked.ask(b"large")
    assert asked.built == [b"large"] * 2
    assert not asked.reads._memos
