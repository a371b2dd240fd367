"""The application: makes the services of a process, puts the routes together, and wraps them in the edge.

Belongs here: composition. Does not belong here: anything else.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from analytics_pipeline import tracing
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage import api_keys, measuring
from analytics_pipeline.storage.system_metrics import Reporter
from analytics_pipeline.telemetry import PROCESSES
from api import health, page
from api.access import rules_of
from api.arrivals import Arrivals
from api.audit import AuditTrail
from api.cache import Cache
from api.clock import Clock, utc_now
from api.custom_events import endpoints as custom_events
from api.custom_events import trials as custom_event_trials
from api.custom_events import versions as custom_event_versions
from api.custom_events.active import ActiveDefinitions
from api.dashboard import endpoints as dashboard
from api.dashboard_page import endpoints as dashboard_page
from api.database import Database
from api.dead_letters import endpoints as dead_letters
from api.dependencies import Services
from api.desk import Desk
from api.discovery import endpoints as discovery
from api.documentation import DESCRIPTION, TITLE, document
from api.edge import REQUEST_ID, Application, Edge
from api.errors import MEDIA_TYPE, BadRequest, HttpProblem, Problem
from api.events import endpoints as events
from api.events import landings
from api.events.committer import InboxCommitter
from api.events.posting import Poster
from api.gate import Gate
from api.health_checks import Health
from api.keyring import Keyring
from api.keys import endpoints as keys
from api.keys import sessions
from api.methods import allowed
from api.metrics import endpoints as metrics
from api.metrics.service import CHANNEL, MetricService
from api.operations import audit, backfills, ledger, pipeline, restatements, retention, sources
from api.operations import endpoints as operations
from api.operations.repository import Ledger
from api.reads import Builder, CachedReads
from api.redis_line import RedisLine
from api.stream import endpoints as stream
from api.stream.streams import Streams
from api.versions import Listener
from api.work_done import work_done

VERSION = "1.0.0"

# Headers that pages of other origins may send, and read.
_SENT = (
    "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Prefer", "X-API-Key",
    "X-Client-Id", "X-Request-ID",
)  # fmt: skip
_TOLD = (
    "ETag", "X-Request-ID", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After",
    "Server-Timing", "X-Landing-Token", "Idempotent-Replayed",
)  # fmt: skip


def create_app(
    settings: Settings, *, clock: Clock = utc_now, is_stopping: Callable[[], bool] = lambda: False
) -> Application:
    """The ASGI application of one process; its lifespan connects and disconnects.

    `is_stopping` tells that the process was asked to stop: open streams end then.
    """
    traces = tracing.start(settings.tracing, "api") if settings.tracing.enabled else None
    services = _services(settings, clock, is_stopping, traces)
    app = FastAPI(
        title=TITLE,
        version=VERSION,
        description=DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        generate_unique_id_function=lambda route: route.name,  # names of methods in generated clients
        # Its own spans would hold query strings, and know nothing of what is answered before routing.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.services = services
    app.openapi = partial(document, app, needs_key=settings.security.api_key_enabled)  # type: ignore[method-assign]
    for feature in (
        events, landings, metrics, discovery, dashboard, custom_event_versions, custom_event_trials,
        custom_events, dead_letters, operations, pipeline, ledger, restatements, sources, retention, backfills,
        stream, keys, sessions, audit, health, page, dashboard_page,
    ):  # fmt: skip
        app.include_router(feature.router)
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    rules = rules_of(app)
    edge: Application = Edge(
        app,
        services.reads,
        {events.PATH: services.poster.answer},
        settings,
        gate=Gate(settings, services.keyring, services.redis),
        rules=rules,
        audit=services.audit,
    )
    if traces is not None:
        from api.traced import TracedApplication

        edge = TracedApplication(edge, traces, rules.keys())
    cors = settings.security.cors
    if not cors.enabled:
        return edge
    return CORSMiddleware(
        edge,
        allow_origins=cors.allowed_origins,
        allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
        # A key in a header, never a cookie: credentials are not allowed, whatever the origins.
        allow_headers=_SENT,
        expose_headers=_TOLD,
        max_age=86_400,
    )


def _database(
    settings: Settings, listeners: Mapping[str, Listener], traces: tracing.Traces | None
) -> Database:
    if traces is None:
        return Database(settings, listeners=listeners)
    from api.traced import TracedDatabase

    return TracedDatabase(settings, listeners=listeners, traces=traces)


def _arrivals(settings: Settings, database: Database, traces: tracing.Traces | None) -> Arrivals:
    if traces is None:
        return Arrivals(database, settings.kafka.topics)
    from api.traced import TracedArrivals

    return TracedArrivals(database, settings.kafka.topics, traces=traces, namespace=settings.kafka.group_id)


def _services(
    settings: Settings, clock: Clock, is_stopping: Callable[[], bool], traces: tracing.Traces | None
) -> Services:
    definitions = ActiveDefinitions(is_enabled=settings.custom_events.enabled)
    versions = MetricService()
    keyring = Keyring(clock)
    listeners = {
        "custom_events": definitions.reload,
        CHANNEL: versions.reload,
        api_keys.CHANNEL: keyring.reload,
    }
    database = _database(settings, listeners, traces)
    redis = RedisLine(settings.redis) if settings.redis.enabled else None
    cache = Cache(settings, database, redis)
    query = settings.analytics.query
    builders: dict[str, Builder] = {
        metrics.PATH: partial(
            metrics.question,
            max_points=query.max_points,
            retention=settings.analytics.retention,
            catalog=definitions.catalog,
            versions_of=versions.of,
        ),
        dashboard.PATH: partial(dashboard.question, catalog=definitions.catalog, versions=versions),
        events.STATS_PATH: partial(
            events.statistics_question,
            max_points=query.max_points,
            retention=settings.analytics.retention,
            versions=versions,
        ),
    }
    arrivals = _arrivals(settings, database, traces)
    inbox = InboxCommitter(
        database,
        uuid4(),
        clock,
        most_events=settings.analytics.ingestion.inbox_limit,
        keep_answers=settings.server.idempotency_retention,
        keep_duplicates=settings.analytics.retention.raw_events,
    )
    return Services(
        settings=settings,
        clock=clock,
        traces=traces,
        database=database,
        desk=Desk(settings, database),
        redis=redis,
        cache=cache,
        keyring=keyring,
        audit=AuditTrail(database, keyring, clock, settings.security.audit_retention),
        arrivals=arrivals,
        reads=CachedReads(cache, clock, builders, arrivals),
        inbox=inbox,
        poster=Poster(
            inbox, definitions.current, clock, settings, context=None if traces is None else tracing.current
        ),
        definitions=definitions,
        trials=asyncio.Semaphore(1),
        versions=versions,
        limits=Limits.of(settings),
        ledger=Ledger(),
        streams=Streams(
            settings.realtime,
            patience=settings.server.write_timeout.total_seconds(),
            is_stopping=is_stopping,
        ),
        health=Health(settings, database, redis, clock),
    )


_LONGEST_MEASURING = 2.0
"""Seconds to wait at the end for a thread that may be in the middle of a statement."""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    await services.database.open()
    services.inbox.start()
    services.audit.start()
    if services.redis is not None:
        services.redis.start()
    reporter = Reporter(services.settings.database.conninfo(), "api", work_done)
    reporter.start()
    has_ended = threading.Event()
    measure = partial(
        measuring.run, services.settings, "api", services.settings.database.conninfo(), has_ended
    )
    measuring_thread = threading.Thread(target=measure, name="measuring", daemon=True)
    measuring_thread.start()
    PROCESSES.labels("api").set(1)
    try:
        yield
    finally:
        PROCESSES.labels("api").set(0)
        reporter.stop()
        has_ended.set()
        await asyncio.to_thread(measuring_thread.join, _LONGEST_MEASURING)
        await services.inbox.close()
        await services.audit.close()
        services.desk.close()
        await services.arrivals.close()
        await services.cache.close()
        if services.redis is not None:
            await services.redis.close()
        await services.database.close()
        if services.traces is not None:
            await asyncio.to_thread(services.traces.close)


async def _answer_problem(request: Request, error: Exception) -> Response:
    problem = error if isinstance(error, Problem) else Problem(str(error))
    body = problem.body(request.scope[REQUEST_ID])
    return Response(body, problem.status, media_type=MEDIA_TYPE, headers=problem.all_headers())


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = {"Allow": allowed(request.app, request.url.path)} if status == 405 else None
    texts = {
        404: ("no-such-path", "Not found", "There is no such path; /docs shows all."),
        405: (
            "method-not-allowed",
            "Method not allowed",
            "This path has other methods; see the Allow header.",
        ),
    }
    kind, title, detail = texts.get(
        status, ("http-error", "Request refused", "The request cannot be served.")
    )
    return await _answer_problem(request, HttpProblem(status, kind, title, detail, headers))


async def _answer_validation_error(request: Request, _error: Exception) -> Response:
    return await _answer_problem(request, BadRequest("The request does not have the documented shape."))
