"""The keys that hold, in the memory of this process: judged without a query, a tenth of a second behind Postgres.

Belongs here: the snapshot of keys and sessions, and comparing secrets. Does not belong here: where a key stands in a
request (`gate`), storing keys (`analytics_pipeline.storage.api_keys`).

Revoked and expired keys are not in the snapshot, so nothing here can tell them from keys that never were.
"""

import asyncio
import hmac
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import structlog

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.reach import Reach, reach
from analytics_pipeline.storage import api_keys
from api.clock import Clock
from api.database import Connection
from api.errors import Unauthorized, Unavailable
from api.principal import Principal

_PATIENCE = 0.3
"""Seconds after which an unknown session is refused: another process may have opened it this very moment."""

_NOBODY = bytes(32)

_log = structlog.get_logger()


class _Known(NamedTuple):
    hash: bytes
    principal: Principal
    expires_at: datetime | None


class _Session(NamedTuple):
    key_id: str
    expires_at: datetime


class Keyring:
    """A snapshot of the valid keys and sessions, replaced as a whole when the database says that one changed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, _Known] | None = None
        self._sessions: dict[bytes, _Session] = {}
        self._reloaded = asyncio.Event()
        self._used: set[str] = set()

    async def reload(self, connection: Connection) -> None:
        """Read them again."""
        keys = await (await connection.execute(api_keys.VALID)).fetchall()
        sessions = await (await connection.execute(api_keys.VALID_SESSIONS)).fetchall()
        known: dict[str, _Known] = {}
        for key_id, hash_, scopes, types, dimensions, expires_at in keys:
            try:
                principal = Principal(key_id, frozenset(scopes), _reach(types, dimensions))
            except ConfigurationError as error:
                # Written by hand: it sees nothing rather than too much, and the other keys go on.
                _log.warning("api_key_unreadable", key_id=key_id, reason=str(error))
                continue
            known[key_id] = _Known(hash_, principal, expires_at)
        self._keys = known
        self._sessions = {hash_: _Session(key_id, expires_at) for hash_, key_id, expires_at in sessions}
        self._reloaded.set()
        self._reloaded = asyncio.Event()

    def by_key(self, text: bytes) -> Principal:
        """Whose key this is.

        Raises:
            Unauthorized: it does not hold.
            Unavailable: Postgres has not been reached yet.
        """
        known = self._all().get(api_keys.id_of(text) or "")
        # Compared in any case, so that time does not tell which ids exist.
        is_same = hmac.compare_digest(api_keys.hash_of(text), _NOBODY if known is None else known.hash)
        if known is None or not is_same or not self._holds(known):
            raise refused()
        self._used.add(known.principal.key_id or "")
        return known.principal

    async def by_session(self, text: bytes) -> Principal:
        """Whose session this is; it ends with its key.

        Raises:
            Unauthorized: it does not hold.
            Unavailable: Postgres has not been reached yet.
        """
        self._all()
        name = api_keys.hash_of(text)
        session = self._sessions.get(name)
        if session is None:
            try:
                async with asyncio.timeout(_PATIENCE):
                    while (session := self._sessions.get(name)) is None:
                        await self._reloaded.wait()
            except TimeoutError:
                raise refused() from None
        known = self._all().get(session.key_id)
        if known is None or session.expires_at <= self._clock() or not self._holds(known):
            raise refused()
        self._used.add(session.key_id)
        return replace(known.principal, csrf=csrf_of(text), session=name)

    def holds(self, principal: Principal) -> bool:
        """Whether what was found to hold still does: for answers that go on for long."""
        if principal.key_id is None:
            return True
        session = None if principal.session is None else self._sessions.get(principal.session)
        if principal.session is not None and (session is None or session.expires_at <= self._clock()):
            return False
        known = self._all().get(principal.key_id)
        return known is not None and self._holds(known)

    def take_used(self) -> set[str]:
        """Ids of the keys that were used since the last call."""
        used, self._used = self._used, set()
        return used

    def _all(self) -> dict[str, _Known]:
        if self._keys is None:
            raise Unavailable("Postgres has not been reached yet.", kind="database-unavailable")
        return self._keys

    def _holds(self, known: _Known) -> bool:
        return known.expires_at is None or known.expires_at > self._clock()


def csrf_of(session: bytes) -> str:
    """The token that belongs to a session: a page of another site can neither read nor compute it."""
    return api_keys.hash_of(b"csrf " + session).hex()


def refused() -> Unauthorized:
    """The one answer to every key that does not hold, whatever the reason."""
    return Unauthorized("The API key is not known, has expired, or was revoked.", kind="invalid-api-key")


def _reach(event_types: list[Any] | None, dimensions: dict[str, Any]) -> Reach:
    given = [event_types or [], *dimensions.values()]
    if not all(isinstance(texts, list) and all(isinstance(one, str) for one in texts) for texts in given):
        raise ConfigurationError("event_types and dimensions are lists of texts")
    return reach(event_types, dimensions)
