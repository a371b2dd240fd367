"""Rate limits of keys, the same for all API processes: one Lua script per keyed request, in Redis.

Belongs here: the script, and asking for several requests at once. Does not belong here: the limit of one process, which
holds while Redis is away (`rate_limit`), who a client is (`gate`).

Requests that arrive while Redis is asked wait for the next question together: so a question costs little per request,
and under load there are about as many as Redis has answers.
"""

import asyncio
import time
from collections import deque

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from api.rate_limit import RateLimiter, Verdict
from api.redis_line import RedisLine

_AT_ONCE = 256
_SECOND = 1e6

# KEYS: one per request. ARGV: µs between two requests, µs of the burst. Returns per request the µs to wait, 0 if it may
# pass, how many more may, and the µs until the burst is whole again. The time is that of Redis, so that processes
# agree. An arrival further ahead than a full burst is not one of ours.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {}
for _, key in ipairs(KEYS) do
    local arrival = tonumber(redis.call('GET', key) or now) or now
    if not (arrival >= now and arrival <= now + tolerance) then arrival = now end
    local wait = arrival + interval - tolerance - now
    if wait > 0 then
        found[#found + 1] = math.ceil(wait)
        found[#found + 1] = 0
    else
        arrival = arrival + interval
        redis.call('SET', key, string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
        found[#found + 1] = 0
        found[#found + 1] = math.floor((tolerance - (arrival - now)) / interval)
    end
    found[#found + 1] = arrival - now
end
return found
"""


class SharedRateLimiter:
    """So many requests a minute, with bursts, per key, over all processes."""

    def __init__(self, redis: RedisLine | None, *, requests_per_minute: int, burst: int) -> None:
        self._redis = redis
        interval = max(1, round(60 * _SECOND / requests_per_minute))
        self._arguments = (interval, interval * burst)
        self._script: AsyncScript | None = None
        self._floor = RateLimiter(requests_per_minute=requests_per_minute, burst=burst)
        self._waiting: deque[tuple[str, Verdict, asyncio.Future[Verdict]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def check(self, client: str) -> Verdict:
        """Count one request of `client`; without Redis, as this process alone has counted."""
        floor = self._floor.check(client, time.monotonic())
        if self._redis is None or not floor.is_allowed:
            return floor
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((client, floor, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._ask_for_all(self._redis))
        return await answer

    async def _ask_for_all(self, redis: RedisLine) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
                verdicts = None
                try:
                    verdicts = await self._ask(redis, [client for client, _, _ in batch])
                finally:
                    for position, (_, floor, answer) in enumerate(batch):
                        if not answer.done():
                            answer.set_result(floor if verdicts is None else verdicts[position])
        finally:
            self._task = None

    async def _ask(self, redis: RedisLine, clients: list[str]) -> list[Verdict] | None:
        names = [f"b25:rate:{client}" for client in clients]

        async def ask(client: Redis) -> object:
            if self._script is None:
                self._script = client.register_script(SCRIPT)
            return await self._script(names, self._arguments, client)

        found = await redis.ask(ask)
        if not isinstance(found, list) or len(found) != 3 * len(names):
            return None
        return [
            Verdict(wait == 0, remaining, wait / _SECOND, reset / _SECOND)
            for wait, remaining, reset in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]
