"""What endpoints are given: the services of this process, made once at the edge.

Belongs here: the container and how an endpoint asks for it. Does not belong here: making the services (`app`).
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from analytics_pipeline.events.limits import Limits
from analytics_pipeline.settings import Settings
from analytics_pipeline.tracing import Traces
from api.arrivals import Arrivals
from api.audit import AuditTrail
from api.cache import Cache
from api.clock import Clock
from api.custom_events.active import ActiveDefinitions
from api.database import Database
from api.desk import Desk
from api.events.committer import InboxCommitter
from api.events.posting import Poster
from api.health_checks import Health
from api.keyring import Keyring
from api.metrics.service import MetricService
from api.operations.repository import Ledger
from api.reads import CachedReads
from api.redis_line import RedisLine
from api.stream.streams import Streams


@dataclass(frozen=True)
class Services:
    """Everything one API process shares between its requests."""

    settings: Settings
    clock: Clock
    traces: Traces | None
    database: Database
    desk: Desk
    redis: RedisLine | None
    cache: Cache
    keyring: Keyring
    audit: AuditTrail
    arrivals: Arrivals
    reads: CachedReads
    inbox: InboxCommitter
    poster: Poster
    definitions: ActiveDefinitions
    trials: asyncio.Semaphore
    """Whoever tries a schema holds it."""
    versions: MetricService
    limits: Limits
    ledger: Ledger
    streams: Streams
    health: Health


def services_of(request: Request) -> Services:
    """The services of the application that serves this request."""
    return cast(Services, request.app.state.services)


ServicesDependency = Annotated[Services, Depends(services_of)]
