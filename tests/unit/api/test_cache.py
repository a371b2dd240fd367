"""Keys, versions and the local level."""

import asyncio
from datetime import date, timedelta
from typing import cast

import pytest

from analytics_pipeline.settings import Settings
from api.cache import Answer, Cache, Question
from api.cache_levels import Kept, LocalLevel
from api.database import Database
from api.entity_tags import entity_tag, matches
from api.errors import TooManyRequests
from api.versions import Versions

FIRST, SECOND, THIRD = date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)


async def nothing(_database: object) -> Answer:
    return Answer(b"", b"")


def question(canonical: str = "q", first: date = FIRST, last: date = SECOND) -> Question:
    return Question(canonical, first, last, nothing)


def test_a_key_changes_with_the_question_and_with_its_days_alone() -> None:
    base = Versions({FIRST: 3}, {SECOND: (2, "7")}, 0.0)
    key = question().key(base)
    assert question().key(Versions({FIRST: 3}, {SECOND: (2, "7")}, 9.0)) == key
    assert question("other").key(base) != key
    changed = [
        Versions({FIRST: 4}, {SECOND: (2, "7")}, 0.0),
        Versions({FIRST: 3}, {SECOND: (3, "7")}, 0.0),
        Versions({FIRST: 3}, {SECOND: (2, "8")}, 0.0),
        Versions({FIRST: 3, SECOND: 1}, {SECOND: (2, "7")}, 0.0),
        Versions({FIRST: 3}, {}, 0.0),
    ]
    assert len({question().key(versions) for versions in [base, *changed]}) == 6
    assert question().key(Versions({FIRST: 3, THIRD: 5}, {SECOND: (2, "7"), THIRD: (1, "1")}, 0.0)) == key


def test_a_fingerprint_cannot_pass_for_another_day() -> None:
    one = Versions({FIRST: 1}, {}, 0.0).digest(FIRST, SECOND)
    other = Versions({SECOND: 1}, {}, 0.0).digest(FIRST, SECOND)
    assert one != other


def test_versions_of_many_ranges_are_not_all_kept() -> None:
    versions = Versions({FIRST: 1}, {}, 0.0)
    digests = {versions.digest(FIRST, FIRST + timedelta(days=days)) for days in range(3_000)}
    assert len(digests) == 1
    assert len(versions._digests) <= 1_000


def kept(body: bytes) -> Kept:
    return Kept(body, b"tag", is_hit=True)


def test_the_local_level_forgets_the_least_recently_used() -> None:
    level = LocalLevel(limit=30, idle=60)
    for key in "abc":
        level.put(key, kept(b"x" * 10))
    assert level.get("a") == kept(b"x" * 10)
    level.put("d", kept(b"y" * 10))
    assert level.get("b") is None
    assert level.get("a") is not None
    level.put("huge", kept(b"z" * 31))
    assert level.get("huge") is None
    level.put("a", kept(b"short"))
    level.put("e", kept(b"x" * 5))
    assert all(level.get(key) is not None for key in "acde")


def test_the_local_level_forgets_the_expired() -> None:
    level = LocalLevel(limit=30, idle=-1)
    level.put("a", kept(b"x"))
    level.put("b", kept(b"x"))
    assert level.get("a") is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b'W/"k"', True), (b'"k"', True), (b"*", True), (b'"a", W/"k"', True), (b'"a",W/"k" ,"b"', True),
        (b'W/"K"', False), (b"k", False), (b"", False), (b'"kk"', False), (b"\xff", False),
    ],
)  # fmt: skip
def test_entity_tags_are_compared_weakly(header: bytes, expected: bool) -> None:
    assert matches(header, b'W/"k"') is expected


def test_the_same_content_has_the_same_tag() -> None:
    assert entity_tag(b"a") == entity_tag(b"a") != entity_tag(b"b")


@pytest.mark.parametrize(("key", "reads"), [("key", 1), (None, 2)])
def test_a_read_without_a_version_is_not_joined_when_it_is_old(
    monkeypatch: pytest.MonkeyPatch, key: str | None, reads: int
) -> None:
    async def run() -> list[bytes]:
        cache = Cache(Settings(), cast("Database", None))
        landed = asyncio.Event()
        asked = 0

        async def ask(_reader: object) -> Answer:
            nonlocal asked
            asked += 1
            body = str(asked).encode()
            await landed.wait()
            return Answer(body, body, is_lasting=False)

        one = Question("q", FIRST, SECOND, ask)
        young = [asyncio.create_task(cache.get(one, key)) for _ in range(2)]
        await asyncio.sleep(0)
        monkeypatch.setattr("api.cache.MAX_AGE", -1.0)
        old = asyncio.create_task(cache.get(one, key))
        await asyncio.sleep(0)
        landed.set()
        found = [kept.body for kept in await asyncio.gather(*young, old)]
        await asyncio.sleep(0)
        assert not cache._flights
        return found

    assert asyncio.run(run()) == [b"1", b"1", str(reads).encode()]


def test_who_joins_a_read_refused_for_its_beginners_share_reads_for_himself() -> None:
    async def run() -> None:
        cache = Cache(Settings(), cast("Database", None))
        asked = 0
        is_joined = asyncio.Event()

        async def ask(_reader: object) -> Answer:
            nonlocal asked
            asked += 1
            await is_joined.wait()
            if asked == 1:
                raise TooManyRequests("your own share")
            return Answer(b"fresh", b"hit")

        one = Question("q", FIRST, SECOND, ask)
        beginner, *joined = (asyncio.create_task(cache.get(one, None)) for _ in range(4))
        for _ in range(3):
            await asyncio.sleep(0)
        is_joined.set()
        with pytest.raises(TooManyRequests):
            await beginner
        assert await asyncio.gather(*joined) == [Kept(b"fresh", entity_tag(b"hit"), is_hit=False)] * 3
        assert asked == 2, "those who joined share the second read"

    asyncio.run(run())
