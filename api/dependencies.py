"""What endpoints are given: the services of this process, made once at the edge.

Belongs here: the container and how an endpoint asks for it. Does not belong here: making the services (`app`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from analytics_pipeline.events.limits import Limits
from analytics_pipeline.settings import Settings

if TYPE_CHECKING:
    from api.cache import Cache
    from api.custom_events.active import ActiveDefinitions
    from api.database import Database
    from api.events.committer import InboxCommitter
    from api.health import Health
    from api.operations.repository import Ledger
    from api.reads import CachedReads

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of the running service."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Services:
    """Everything one API process shares between its requests."""

    settings: Settings
    clock: Clock
    database: "Database"
    cache: "Cache"
    reads: "CachedReads"
    inbox: "InboxCommitter"
    definitions: "ActiveDefinitions"
    limits: Limits
    ledger: "Ledger"
    health: "Health"


def services_of(request: Request) -> Services:
    """The services of the application that serves this request."""
    return cast(Services, request.app.state.services)


ServicesDependency = Annotated[Services, Depends(services_of)]
