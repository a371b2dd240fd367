"""Nobody takes all turns at Postgres, and nobody's turns are lost."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from api import turns as module
from api.errors import TooManyRequests, Unavailable
from api.turns import Turns, calling


@pytest.fixture(autouse=True)
def _short_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_TIME", 0.05)


async def as_caller(caller: str | None, work: Callable[[], Awaitable[object]]) -> object:
    """In a task, and so a context, of its own."""

    async def in_own_context() -> object:
        calling(caller)
        return await work()

    return await asyncio.create_task(in_own_context())


def test_a_caller_has_a_share_and_the_rest_is_for_others() -> None:
    async def run() -> None:
        turns = Turns(4, 2)
        held = [await as_caller("a", turns.take) for _ in range(2)]
        with pytest.raises(TooManyRequests) as caught:
            await as_caller("a", turns.take)
        assert (caught.value.kind, caught.value.status) == ("too-many-queries", 429)
        assert caught.value.retry_after
        held += [await as_caller("b", turns.take), await as_caller(None, turns.take)]
        for caller in ("c", None):
            with pytest.raises(Unavailable) as full:
                await as_caller(caller, turns.take)
            assert full.value.kind == "overloaded"
        for end in held:
            end()  # type: ignore[operator]
        assert turns.callers == 0
        again = [await as_caller("a", turns.take) for _ in range(2)]
        assert len(again) == 2

    asyncio.run(run())


def test_who_waits_for_his_own_share_gets_the_turn_that_ends() -> None:
    async def run() -> None:
        turns = Turns(4, 1)
        end = await as_caller("a", turns.take)
        waiting = asyncio.create_task(as_caller("a", turns.take))
        await asyncio.sleep(0)
        end()  # type: ignore[operator]
        (await waiting)()  # type: ignore[operator]
        assert turns.callers == 0

    asyncio.run(run())


def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    async def run() -> None:
        turns = Turns(1, 1)
        end = await as_caller(None, turns.take)
        waiting = asyncio.create_task(as_caller("a", turns.take))
        for _ in range(3):
            await asyncio.sleep(0)
        assert turns.callers == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert turns.callers == 0
        end()  # type: ignore[operator]
        (await as_caller("a", turns.take))()  # type: ignore[operator]

    asyncio.run(run())
