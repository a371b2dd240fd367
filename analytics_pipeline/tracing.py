"""Traces by OpenTelemetry: the tracer of a process, W3C contexts in and out, sent by OTLP over HTTP.

Belongs here: everything that knows OpenTelemetry's SDK. Does not belong here: which spans there are; those stand beside
what they measure (`ingest.traced_lander`, `defs.rollups.traced_merges`, `api.traced`), which only a process with
`tracing.enabled` imports. Nothing of OpenTelemetry is loaded here before `start`.

A landing span has an identity that follows from its batch id, so that the merge that settles the batch can link to it
although nothing of the trace is kept in between.
"""

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.settings import Tracing

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Link, Span, SpanKind

TRACEPARENT = "traceparent"
"""Name of the header, of Kafka and of HTTP, that a context travels in; its companion is ignored."""

MOST_LINKS = 128
"""Contexts that one span links to; a batch of 20,000 messages may have that many."""

_SERVICE_PREFIX = "b25-analytics"
_NANOSECONDS = 1_000_000_000
_PATIENCE = 3.0
_SEND_EVERY = 1_000

_identity: ContextVar["Identity | None"] = ContextVar("b25_span_identity", default=None)


class Identity(NamedTuple):
    """Of a span whose ids are not left to chance."""

    trace_id: int
    span_id: int

    @classmethod
    def of_batch(cls, namespace: str, batch_id: int) -> "Identity":
        """Of the landing span of a batch; `namespace` keeps the batches of two pipelines apart."""
        digest = blake2b(f"{namespace}\n{batch_id}".encode(), digest_size=24).digest()
        return cls(int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:]) or 1)


class Traces:
    """The tracer of one process; made by `start`."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(_SERVICE_PREFIX)

    def close(self) -> None:
        """Send what is left; takes some seconds at most."""
        self._provider.force_flush(int(_PATIENCE * 1000))
        self._provider.shutdown()

    @contextmanager
    def span(
        self,
        name: str,
        kind: str,
        attributes: Mapping[str, Any],
        *,
        traceparent: str | None = None,
    ) -> Iterator["Span"]:
        """A span around a block, child of `traceparent` if that is one, else of the span at work here, if any.

        The block's error marks it as failed by the name of its class alone: texts may hold data.
        """
        with self._tracer.start_as_current_span(
            name,
            context=_context_of(traceparent),
            kind=_kind(kind),
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                fail(span, type(error).__name__)
                raise

    def record(
        self,
        name: str,
        kind: str,
        attributes: Mapping[str, Any],
        *,
        start: int,
        end: int,
        links: Iterable["Link"] = (),
        identity: Identity | None = None,
        steps: Mapping[str, float] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """A span of something that is over, with a child for each of its steps.

        Args:
            name: what it is.
            kind: `consumer` or `internal`.
            attributes: of OpenTelemetry's conventions where there are some.
            start: ns since 1970.
            end: likewise.
            links: to spans that it did the work of, `MOST_LINKS` at most.
            identity: its ids, if they shall be known elsewhere; it has no parent then.
            steps: seconds of each, in their order; the last one ended when all did.
            error: why it failed.
        """
        from opentelemetry.trace import set_span_in_context

        token = _identity.set(identity)
        try:
            span = self._tracer.start_span(
                name, kind=_kind(kind), attributes=attributes, links=list(links), start_time=start
            )
        finally:
            _identity.reset(token)
        within = set_span_in_context(span)
        at = end - int(sum((steps or {}).values()) * _NANOSECONDS)
        for step, seconds in (steps or {}).items():
            child = self._tracer.start_span(step, context=within, start_time=at)
            at += int(seconds * _NANOSECONDS)
            child.end(at)
        if error is not None:
            fail(span, type(error).__name__)
        span.end(end)


def require() -> None:
    """Load the packages of the extra.

    Raises:
        ConfigurationError: they are not installed.
    """
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace.export  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigurationError(
            "tracing.enabled: the packages that traces need are not installed; "
            "pip install 'b25-analytics[tracing]', or set tracing.enabled: false"
        ) from None


def start(settings: Tracing, service: str) -> Traces:
    """Begin to trace this process.

    Args:
        settings: enabled.
        service: `ingest`, `dagster` or `api`.

    Raises:
        ConfigurationError: the packages of the extra are not installed.
    """
    require()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create(
        {
            "service.name": f"{_SERVICE_PREFIX}-{service}",
            "service.namespace": _SERVICE_PREFIX,
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
    )
    provider = TracerProvider(
        sampler=_sampler(settings.sample_ratio),
        resource=resource,
        id_generator=_id_generator(),
        span_limits=SpanLimits(max_links=MOST_LINKS),
    )
    exporter = OTLPSpanExporter(
        endpoint=settings.endpoint, headers=settings.header_values(), timeout=_PATIENCE
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SEND_EVERY))
    return Traces(provider)


def link_to(traceparent: str, attributes: Mapping[str, Any]) -> "Link | None":
    """A link to the span that a header names; None if it names none."""
    from opentelemetry.trace import Link, get_current_span

    found = _context_of(traceparent)
    return Link(get_current_span(found).get_span_context(), attributes) if found is not None else None


def link_to_batch(namespace: str, batch_id: int) -> "Link":
    """A link to the landing span of a batch."""
    from opentelemetry.trace import Link, SpanContext

    identity = Identity.of_batch(namespace, batch_id)
    context = SpanContext(identity.trace_id, identity.span_id, is_remote=True)
    return Link(context, {"analytics.batch_id": batch_id})


def current() -> str:
    """The header that names the span at work here; empty when there is none."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(TRACEPARENT, "")


def fail(span: "Span", reason: str) -> None:
    """Mark a span as failed."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", reason)
    span.set_status(Status(StatusCode.ERROR))


def _context_of(traceparent: str | None) -> "Context | None":
    """The context of a header; None for a header that is none, and nobody's parent."""
    if not traceparent:
        return None
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent})
    return found if get_current_span(found).get_span_context().is_valid else None


def _kind(name: str) -> "SpanKind":
    from opentelemetry.trace import SpanKind

    return SpanKind[name.upper()]


def _sampler(ratio: float) -> "Sampler":
    """The parent's decision; else a share of the traces, and every span that links to one that is sampled."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

    otherwise = ParentBased(TraceIdRatioBased(ratio))

    class LinkedOrRatio(Sampler):
        """What a sampled message led to is sampled, whatever the ratio."""

        def should_sample(
            self, parent_context: Any, trace_id: int, name: str, kind: Any = None, attributes: Any = None,
            links: Any = None, trace_state: Any = None,
        ) -> Any:  # fmt: skip
            chosen = ALWAYS_ON if any(link.context.trace_flags.sampled for link in links or ()) else otherwise
            return chosen.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

        def get_description(self) -> str:
            return f"LinkedOrRatio{{{ratio:g}}}"

    return LinkedOrRatio()


def _id_generator() -> "IdGenerator":
    """Chance, unless a span was given an identity."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Identified(RandomIdGenerator):
        def generate_span_id(self) -> int:
            wanted = _identity.get()
            return super().generate_span_id() if wanted is None else wanted.span_id

        def generate_trace_id(self) -> int:
            wanted = _identity.get()
            return super().generate_trace_id() if wanted is None else wanted.trace_id

    return Identified()
