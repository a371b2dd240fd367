"""Whoever runs out of time is told so, and whoever is cancelled from outside at the same moment is cancelled."""

import asyncio

import pytest

from api.deadline import Deadline, TimeIsUp


@pytest.mark.parametrize(("is_cancelled", "raised"), [(False, TimeIsUp), (True, asyncio.CancelledError)])
def test_the_end_of_time_is_told_from_being_cancelled(
    is_cancelled: bool, raised: type[BaseException]
) -> None:
    begun: list[Deadline] = []

    async def work() -> None:
        with Deadline(asyncio.get_running_loop().time() + 60) as deadline:
            begun.append(deadline)
            await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        begun[0]._end()
        if is_cancelled:
            task.cancel()
        with pytest.raises(raised):
            await task

    asyncio.run(run())
