"""A small receiver of OTLP over HTTP: keeps the spans that were sent to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.waiting import wait_for


class Received(NamedTuple):
    """A span, ids in hex; `links` are (trace id, span id, attributes)."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    is_failed: bool
    attributes: dict[str, Any]
    links: list[tuple[str, str, dict[str, Any]]]


class Receiver:
    """Its endpoint, and what came."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}/v1/traces"
        self.headers: list[dict[str, str]] = []
        self._spans: list[Received] = []
        self._lock = threading.Lock()

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            _received(_values(group.resource.attributes)["service.name"], span)
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self.headers.append(headers)
            self._spans += found

    def spans(self, name: str = "") -> list[Received]:
        with self._lock:
            return [span for span in self._spans if span.name == name or not name]

    def one(self, name: str, **wanted: Any) -> Received:
        """The span of that name with these fields; waits for it."""

        def found() -> list[Received]:
            return [
                span
                for span in self.spans(name)
                if all(getattr(span, field) == value for field, value in wanted.items())
            ]

        return wait_for(found, 20, f"a span {name!r} with {wanted}")[0]


def _received(service: str, span: Any) -> Received:
    return Received(
        service, span.name, span.kind, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        span.start_time_unix_nano, span.end_time_unix_nano, span.status.code == 2, _values(span.attributes),
        [(link.trace_id.hex(), link.span_id.hex(), _values(link.attributes)) for link in span.links],
    )  # fmt: skip


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.take(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join(5)
