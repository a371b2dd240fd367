"""Who sends a request, as far as it matters.

Belongs here: the value. Does not belong here: finding it out (`gate`), what it may do (`access`).
"""

from dataclasses import dataclass

from fastapi import Request

from analytics_pipeline.events.reach import EVERYTHING, Reach

PRINCIPAL = "b25.principal"
"""Key of the principal in a request's scope."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A key, or anonymous.

    Attributes:
        key_id: None: anonymous.
        scopes: of `read`, `write`, `admin`.
        reach: which events it sees and sends.
        csrf: the token that a write has to carry, if the key came as a cookie.
        session: what is kept of that cookie.
    """

    key_id: str | None
    scopes: frozenset[str]
    reach: Reach = EVERYTHING
    csrf: str | None = None
    session: bytes | None = None


ANONYMOUS = Principal(None, frozenset({"read", "write"}))
"""Whoever needs no key. Keys themselves are managed with a key, or on the machine with `analytics keys`."""


def principal_of(request: Request) -> Principal:
    """Who sent it, as the edge found out."""
    found: Principal = request.scope[PRINCIPAL]
    return found


def reach_of(request: Request) -> Reach:
    """Which events its sender sees and sends."""
    return principal_of(request).reach
