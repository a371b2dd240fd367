"""The API with a server span for each request, and spans within for each question to Postgres and each wait.

Belongs here: what these spans say. Does not belong here: OpenTelemetry (`analytics_pipeline.tracing`).
Only a process with `tracing.enabled` imports this; without it there is one layer less, and `Database` as it is.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg

from analytics_pipeline import tracing
from analytics_pipeline.events.messages import Offset
from analytics_pipeline.storage.arrivals import Sent, batch_of
from analytics_pipeline.tracing import Traces
from api.arrivals import Arrivals
from api.database import Connection, Database
from api.edge import REQUEST_ID, Application, Message, Receive, Scope, Send
from api.errors import Problem

_TRACEPARENT = tracing.TRACEPARENT.encode()
_FIRST_OF_OURS = 500


class TracedApplication:
    """Wraps the application; the caller's `traceparent` is the parent."""

    def __init__(self, app: Application, traces: Traces, routes: Collection[tuple[str, str]]) -> None:
        """Take what is wrapped, the tracer, and (method, path) of every route."""
        self._app = app
        self._traces = traces
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        parent = next((value for name, value in scope["headers"] if name == _TRACEPARENT), b"")
        with self._traces.span(
            method, "server", {"http.request.method": method}, traceparent=parent.decode("latin-1")
        ) as span:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= _FIRST_OF_OURS:
                        tracing.fail(span, str(status))
                await send(message)

            try:
                await self._app(scope, receive, noting)
            finally:
                route = self._route(method, scope)
                if route is not None:
                    span.set_attribute("http.route", route)
                    span.update_name(f"{method} {route}")
                span.set_attribute("analytics.request_id", scope.get(REQUEST_ID, ""))

    def _route(self, method: str, scope: Scope) -> str | None:
        """The path with its parameters unfilled, as the request's series name it."""
        matched = getattr(scope.get("route"), "path", None)
        if matched is not None:
            return str(matched)
        path: str = scope["path"]  # answered before routing
        return path if (method, path) in self._routes else None


class TracedDatabase(Database):
    """See `Database`; waiting for a connection is part of the span."""

    def __init__(self, *arguments: Any, traces: Traces, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._traces = traces

    @asynccontextmanager
    async def read(self, query: str, /) -> AsyncIterator[Connection]:
        """A read-only connection; see `Database.read`."""
        with self._traces.span(f"read {query}", "client", _about(query)):
            async with super().read(query) as opened:
                yield opened

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Connection]:
        """A connection that may write; see `Database.write`."""
        with self._traces.span("write", "client", _about("write")):
            async with super().write() as opened:
                yield opened


class TracedArrivals(Arrivals):
    """See `Arrivals`; a wait for a message from Kafka links to the landing that the answer then holds."""

    def __init__(self, database: Database, topics: list[str], *, traces: Traces, namespace: str) -> None:
        """Take what an `Arrivals` takes, and the tracer; `namespace` as for `tracing.Identity`."""
        super().__init__(database, topics)
        self._traces = traces
        self._namespace = namespace

    async def wait(self, sent: Sent, *, sees_everything: bool) -> None:
        """Return when it has landed; see `Arrivals.wait`."""
        with self._traces.span("wait until landed", "internal", {}) as span:
            await super().wait(sent, sees_everything=sees_everything)
            if isinstance(sent, Offset) and span.is_recording():
                # What waits has what it wants: that it cannot be traced is no reason to refuse it.
                with suppress(Problem, psycopg.Error):
                    async with self._database.read("after") as opened:
                        batch = await batch_of(opened, sent)
                    if batch is not None:
                        link = tracing.link_to_batch(self._namespace, batch)
                        span.add_link(link.context, link.attributes)


def _about(query: str) -> dict[str, str]:
    return {"db.system.name": "postgresql", "db.query.summary": query}
