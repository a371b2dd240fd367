"""Traces: off they cost nothing, without their packages they say so, and what they link to is bounded."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from analytics_pipeline import tracing
from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.ingest.traced_lander import _links
from analytics_pipeline.settings import Settings, Tracing, load_settings
from analytics_pipeline.storage.inbox import Entry, _headers, _producers

OFF = """
import sys
import analytics_pipeline.ingest.__main__ as ingest, api.app
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.landing import Lander
assert ingest._landers(Settings(), None) is Lander
api.app.create_app(Settings())
# FastAPI loads what it finds of metrics; a tracer and a sender are ours alone.
loaded = [name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))]
assert not loaded, loaded
assert "analytics_pipeline.ingest.traced_lander" not in sys.modules
assert "api.traced" not in sys.modules
"""


def header(number: int) -> bytes:
    return f"00-{number:032x}-{number:016x}-01".encode()


def message(offset: int, context: bytes | None) -> PlainMessage:
    return PlainMessage(b"{}", offset, extra=((("traceparent", context)),) if context is not None else ())


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def traces(exporter: InMemorySpanExporter, ratio: float) -> tracing.Traces:
    provider = TracerProvider(sampler=tracing._sampler(ratio), id_generator=tracing._id_generator())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return tracing.Traces(provider)


def finished(exporter: InMemorySpanExporter) -> Iterator[ReadableSpan]:
    return iter(exporter.get_finished_spans())


def test_off_nothing_of_opentelemetry_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr


def test_without_the_packages_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # by its own name: a submodule that is loaded is found without its parent
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(
        ConfigurationError, match=r"tracing\.enabled: .* pip install 'b25-analytics\[tracing\]'"
    ):
        tracing.start(Tracing(enabled=True), "ingest")


def test_the_headers_are_a_secret_of_name_and_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B25_TRACING__HEADERS", "Authorization=Bearer a=b, X-Team=desk 3")
    found = load_settings().tracing
    assert found.header_values() == {"authorization": "Bearer a=b", "x-team": "desk 3"}
    assert "Bearer" not in repr(found)
    assert Tracing().header_values() == {}


@pytest.mark.parametrize("value", ["no pair", "a=b,c", "na me=x", "a=b\nc=d"])
def test_headers_that_are_none_are_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("B25_TRACING__HEADERS", value)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert "tracing.headers: write name=value" in str(refused.value)
    assert value not in str(refused.value)


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "grpc://collector:4317", "http://user:word@collector/v1"]
)
def test_an_endpoint_is_a_whole_address(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        Settings.model_validate({"tracing": {"endpoint": endpoint}})


def test_each_context_is_linked_to_once_and_what_is_none_is_passed_over() -> None:
    contexts = [
        header(1),
        None,
        b"rubbish",
        header(1),
        b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
        header(2),
    ]
    batch = RawBatch("orders", 3, [message(offset, context) for offset, context in enumerate(contexts)])
    found = [(link.context.trace_id, dict(link.attributes or {})) for link in _links([batch])]
    where = {"messaging.destination.name": "orders", "messaging.destination.partition.id": "3"}
    assert found == [(1, {**where, "messaging.kafka.offset": 0}), (2, {**where, "messaging.kafka.offset": 5})]


def test_links_are_bounded(exporter: InMemorySpanExporter) -> None:
    from opentelemetry.sdk.trace import SpanLimits

    provider = TracerProvider(span_limits=SpanLimits(max_links=tracing.MOST_LINKS))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    batch = RawBatch("orders", 0, [message(n, header(n + 1)) for n in range(1_000)])
    tracing.Traces(provider).record("land batch", "consumer", {}, start=1, end=2, links=_links([batch]))
    [span] = finished(exporter)
    assert len(span.links) == tracing.MOST_LINKS


@pytest.mark.parametrize(("ratio", "is_linked", "spans"), [(0, True, 1), (0, False, 0), (1, False, 1)])
def test_a_sampled_link_samples(
    exporter: InMemorySpanExporter, ratio: float, is_linked: bool, spans: int
) -> None:
    link = tracing.link_to(header(7).decode(), {})
    assert link is not None
    traces(exporter, ratio).record(
        "land batch", "consumer", {}, start=1, end=2, links=[link] if is_linked else []
    )
    assert len(list(finished(exporter))) == spans


def test_the_identity_of_a_landing_follows_from_its_batch(exporter: InMemorySpanExporter) -> None:
    identity = tracing.Identity.of_batch("group", 42)
    traces(exporter, 1).record(
        "land batch",
        "consumer",
        {},
        start=1,
        end=10**9,
        identity=identity,
        steps={"begin": 0.1, "commit": 0.2},
    )
    begin, commit, batch = finished(exporter)
    assert batch.context is not None
    assert (batch.context.trace_id, batch.context.span_id) == identity
    link = tracing.link_to_batch("group", 42)
    assert (link.context.trace_id, link.context.span_id) == identity
    assert tracing.link_to_batch("other", 42).context.trace_id != identity.trace_id
    assert begin.parent is not None
    assert begin.parent.span_id == identity.span_id
    assert commit.end_time == 10**9


def test_an_error_is_told_by_its_class_alone(exporter: InMemorySpanExporter) -> None:
    with (
        pytest.raises(ValueError, match="secret"),
        traces(exporter, 1).span("read metrics", "client", {}),
    ):
        raise ValueError("a secret")
    [span] = finished(exporter)
    assert not span.status.is_ok
    assert dict(span.attributes or {}) == {"error.type": "ValueError"}
    assert span.events == ()


def test_a_context_travels_with_posted_events_beside_the_producers_name() -> None:
    entries = [Entry(b"{}", 1), Entry(b"{}\n{}", 2, "desk", "00-1"), Entry(b"{}", 1, "", "00-2")]
    text = _producers(entries)
    assert text == '[["", 1], ["desk", 2, "00-1"], ["", 1, "00-2"]]'
    import json

    named, anonymous = (("client_id", b"desk"), ("traceparent", b"00-1")), (("traceparent", b"00-2"),)
    assert _headers(json.loads(text), 4) == [(), named, named, anonymous]
    assert _headers([["desk", 1]], 1) == [(("client_id", b"desk"),)]  # as earlier versions wrote it
    assert _producers([Entry(b"{}", 1)]) is None
