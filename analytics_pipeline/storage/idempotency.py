"""Answers kept for requests that are sent again, committed together with the events they are about.

Belongs here: the statements on `http_idempotency`. Does not belong here: HTTP, and what an answer says.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg

from analytics_pipeline.storage import inbox
from analytics_pipeline.storage.inbox import Entry, Landing

# Sorted, so that two processes never wait for each other; whoever holds the same key at this moment is waited for.
# An expired key is taken over.
_CLAIM = """
INSERT INTO http_idempotency AS known (key, fingerprint, status, answer, created_at)
SELECT claimed.key, claimed.fingerprint, 0, '', %(now)s
FROM unnest(%(keys)s::bytea [], %(fingerprints)s::bytea []) AS claimed (key, fingerprint)
ORDER BY claimed.key
ON CONFLICT (key) DO UPDATE
SET fingerprint = excluded.fingerprint, created_at = excluded.created_at, status = 0, answer = '', landing = NULL
WHERE known.created_at < %(expired)s
RETURNING key
"""
_FILL = """
UPDATE http_idempotency AS known
SET status = made.status, answer = made.answer, landing = made.landing
FROM unnest(%(keys)s::bytea [], %(statuses)s::smallint [], %(answers)s::bytea [], %(landings)s::text [])
    AS made (key, status, answer, landing)
WHERE known.key = made.key
"""
_FIND = """
SELECT key, fingerprint, status, answer, landing FROM http_idempotency
WHERE key = ANY(%(keys)s::bytea []) AND created_at >= %(expired)s
"""
_FORGET = """
DELETE FROM http_idempotency WHERE key = ANY(ARRAY(
    SELECT key FROM http_idempotency WHERE created_at < %s ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED
))
"""
_FORGET_AT_ONCE = 1_000


class Made(NamedTuple):
    """An answer of HTTP; `landing` is the token of the events it is about."""

    status: int
    answer: bytes
    landing: str


class Keyed(NamedTuple):
    """A request that carries a key: its events, and the answer once it is known where they wait."""

    key: bytes
    fingerprint: bytes
    entry: Entry
    answer: Callable[[Landing], Made]


class Settled(NamedTuple):
    """What a keyed request is answered; `is_same` is false when the key belongs to another request."""

    made: Made
    is_replay: bool
    is_same: bool


async def append(
    connection: psycopg.AsyncConnection,
    requests: Sequence[Keyed],
    *,
    process_id: UUID,
    now: datetime,
    expired: datetime,
    wake: bool = True,
) -> list[Settled]:
    """Append the events of those requests whose key is new, with their answers, in one transaction.

    Args:
        connection: in autocommit.
        requests: keys may repeat; the first one counts.
        process_id: of the API process.
        now: arrival time.
        expired: keys from before are forgotten.
        wake: see `inbox.append`.

    Returns:
        What each request is answered, in the order given.

    Raises:
        psycopg.Error: nothing was appended.
    """
    firsts = {request.key: request for request in reversed(requests)}
    async with connection.transaction():
        cursor = await connection.execute(
            _CLAIM,
            {
                "keys": list(firsts),
                "fingerprints": [request.fingerprint for request in firsts.values()],
                "now": now,
                "expired": expired,
            },
        )
        fresh = [firsts[key] for (key,) in await cursor.fetchall()]
        settled = await _append_fresh(connection, fresh, process_id, now, wake)
        others = [request for request in requests if settled.get(id(request)) is None]
        known = await _find(connection, [request.key for request in others], expired) if others else {}
        if any(request.key not in known for request in others):
            raise psycopg.errors.SerializationFailure("a key expired while it was looked at")
    return [settled.get(id(request)) or _compare(request, known[request.key]) for request in requests]


async def find(
    connection: psycopg.AsyncConnection, key: bytes, fingerprint: bytes, *, expired: datetime
) -> Settled | None:
    """The answer kept under a key, if there is one."""
    known = (await _find(connection, [key], expired)).get(key)
    return None if known is None else Settled(known[1], True, known[0] == fingerprint)


async def forget(connection: psycopg.AsyncConnection, expired: datetime) -> None:
    """Delete expired answers, a few at a time."""
    while (await connection.execute(_FORGET, (expired, _FORGET_AT_ONCE))).rowcount == _FORGET_AT_ONCE:
        pass


async def _append_fresh(
    connection: psycopg.AsyncConnection, fresh: Sequence[Keyed], process_id: UUID, now: datetime, wake: bool
) -> dict[int, Settled]:
    if not fresh:
        return {}
    entries = [request.entry for request in fresh]
    landings = await inbox.append(connection, entries, process_id=process_id, now=now, wake=wake)
    made = [request.answer(landing) for request, landing in zip(fresh, landings, strict=True)]
    await connection.execute(
        _FILL,
        {
            "keys": [request.key for request in fresh],
            "statuses": [answer.status for answer in made],
            "answers": [answer.answer for answer in made],
            "landings": [answer.landing for answer in made],
        },
    )
    return {
        id(request): Settled(answer, is_replay=False, is_same=True)
        for request, answer in zip(fresh, made, strict=True)
    }


async def _find(
    connection: psycopg.AsyncConnection, keys: Sequence[bytes], expired: datetime
) -> dict[bytes, tuple[bytes, Made]]:
    cursor = await connection.execute(_FIND, {"keys": list(keys), "expired": expired})
    return {
        bytes(key): (bytes(fingerprint), Made(status, bytes(answer), landing or ""))
        for key, fingerprint, status, answer, landing in await cursor.fetchall()
    }


def _compare(request: Keyed, known: tuple[bytes, Made]) -> Settled:
    return Settled(known[1], is_replay=True, is_same=known[0] == request.fingerprint)
