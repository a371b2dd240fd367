"""Traces of real processes: from a message's header to its landing, from a request to its question, to the merge."""

import json
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from analytics_pipeline.defs.rollups.merging import merge_pending
from analytics_pipeline.defs.rollups.traced_merges import traced
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import connect
from tests.integration.api_process import Process, started
from tests.integration.databases import fresh_database
from tests.integration.ingest_process import ingest, wait_until_landed, write_config
from tests.integration.landing_rig import event, rows, value
from tests.otlp import Received, Receiver, receiving
from tests.waiting import wait_for

TOPIC = "traced.events"
CLIENT, SERVER, CONSUMER = 3, 2, 5


class Traced(NamedTuple):
    """Ingest and API that send their spans to a receiver."""

    database: str
    kafka: str
    api: Process
    receiver: Receiver
    group: str


def traceparent(number: int, *, is_sampled: bool = True) -> tuple[str, str, str]:
    """Trace id, span id, and the header that names them."""
    trace_id, span_id = f"{number:032x}", f"{number:016x}"
    return trace_id, span_id, f"00-{trace_id}-{span_id}-{is_sampled:02x}"


@pytest.fixture(scope="module")
def pipeline(
    postgres: Postgres, template_database: str, kafka: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    admin = AdminClient({"bootstrap.servers": kafka})
    [made] = admin.create_topics([NewTopic(TOPIC, 1, 1)]).values()
    made.result(20)
    with receiving() as receiver, pytest.MonkeyPatch.context() as patched:
        variables = {
            "B25_TRACING__ENABLED": "true",
            "B25_TRACING__ENDPOINT": receiver.endpoint,
            "B25_TRACING__HEADERS": "authorization=Bearer sesame",
            # only what is linked or called from a sampled trace is sampled
            "B25_TRACING__SAMPLE_RATIO": "0",
        }
        for name, text in variables.items():
            patched.setenv(name, text)
        for database in fresh_database(postgres, template_database):
            config = write_config(folder, database, kafka, [TOPIC])
            with ingest(config), started(database, B25_KAFKA__GROUP_ID=f"group-{folder.name}") as api:
                wait_for(lambda: api.ask("SERVER", "/ready")[0] == 200, 30, "the API")
                yield Traced(database, kafka, api, receiver, f"group-{folder.name}")


def send(pipeline: Traced, numbers: list[int], header: str | None) -> None:
    producer = Producer({"bootstrap.servers": pipeline.kafka})
    for number in numbers:
        headers = [("traceparent", header.encode())] if header else []
        producer.produce(TOPIC, json.dumps(event(number)).encode(), headers=headers)
    assert producer.flush(20) == 0


def linked_to(pipeline: Traced, trace_id: str, span_id: str) -> Received:
    """The landing that links to a span; waits for it."""

    def found() -> list[Received]:
        return [
            span
            for span in pipeline.receiver.spans("land batch")
            if (trace_id, span_id) in [link[:2] for link in span.links]
        ]

    return wait_for(found, 20, "a landing span")[0]


def ask(pipeline: Traced, path: str, header: str, body: bytes | None = None) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{pipeline.api.ports['SERVER']}{path}",
        data=body,
        headers={"traceparent": header, "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return int(answer.status)


@pytest.mark.slow
def test_a_produced_message_appears_as_a_link_of_its_landing(pipeline):
    trace_id, span_id, header = traceparent(0xA1)
    send(pipeline, [1, 2, 3], header)
    wait_until_landed(pipeline.database, TOPIC, 3)
    landed = linked_to(pipeline, trace_id, span_id)
    assert (landed.service, landed.kind, landed.parent_id) == ("b25-analytics-ingest", CONSUMER, "")
    assert landed.attributes["messaging.system"] == "kafka"
    assert landed.attributes["analytics.stored"] >= 1
    [link] = landed.links  # once, however many messages it came with
    assert link[2]["messaging.destination.name"] == TOPIC
    steps = wait_for(
        lambda: [span for span in pipeline.receiver.spans() if span.parent_id == landed.span_id], 10, "steps"
    )
    assert [step.name for step in steps][:2] == ["begin", "events"]
    assert steps[-1].name == "commit"
    assert all(landed.start <= step.start <= step.end <= landed.end for step in steps)
    assert pipeline.receiver.headers[0]["authorization"] == "Bearer sesame"


def landed_batches(pipeline: Traced) -> set[int]:
    return {batch for (batch,) in rows(pipeline.database, "SELECT batch_id FROM ingest_batches")}


def read(pipeline: Traced) -> int:
    statement = "SELECT coalesce(sum(read), 0) FROM ingest_batches WHERE source = %s"
    return int(value(pipeline.database, statement, TOPIC))


def test_what_nobody_samples_is_not_sent(pipeline):
    before, known = read(pipeline), landed_batches(pipeline)
    send(pipeline, [11, 12], None)
    send(pipeline, [13], traceparent(0xB2, is_sampled=False)[2])
    wait_until_landed(pipeline.database, TOPIC, before + 3)
    unsampled = landed_batches(pipeline) - known
    trace_id, span_id, header = traceparent(0xB3)
    send(pipeline, [14], header)
    linked_to(pipeline, trace_id, span_id)  # later than those, and they would have come first
    assert unsampled
    assert (
        unsampled & {span.attributes.get("analytics.batch_id") for span in pipeline.receiver.spans()} == set()
    )


def test_a_request_is_a_child_of_its_caller_and_its_question_a_child_of_it(pipeline):
    trace_id, span_id, header = traceparent(0xC1)
    assert ask(pipeline, "/api/v1/metrics?metric_name=events.count&interval=5m", header) == 200
    served = pipeline.receiver.one("GET /api/v1/metrics", trace_id=trace_id)
    assert (served.service, served.kind, served.parent_id) == ("b25-analytics-api", SERVER, span_id)
    assert served.attributes["http.response.status_code"] == 200
    assert served.attributes["http.route"] == "/api/v1/metrics"
    assert "metric_name" not in str(served.attributes)
    asked = wait_for(
        lambda: [span for span in pipeline.receiver.spans() if span.parent_id == served.span_id], 10, "SQL"
    )[0]
    assert (asked.kind, asked.trace_id) == (CLIENT, trace_id)
    assert asked.attributes["db.system.name"] == "postgresql"


def test_a_posted_event_leads_from_its_request_to_its_landing(pipeline):
    trace_id, _, header = traceparent(0xD1)
    assert ask(pipeline, "/api/v1/events", header, json.dumps(event(21)).encode()) == 201
    served = pipeline.receiver.one("POST /api/v1/events", trace_id=trace_id)
    landed = linked_to(pipeline, trace_id, served.span_id)
    assert landed.attributes["messaging.system"] == "analytics.inbox"


def test_a_message_leads_through_its_landing_to_the_answer_that_waited_for_it(pipeline):
    """One after the other by links: the producer's span, the landing, the wait of the request."""
    sent_in, sent_by, header = traceparent(0xF1)
    offset = read(pipeline)
    send(pipeline, [41], header)
    asked_in, _, asking = traceparent(0xF2)
    path = f"/api/v1/metrics?metric_name=events.count&interval=5m&after={TOPIC}:0:{offset}"
    assert ask(pipeline, path, asking) == 200
    landed = linked_to(pipeline, sent_in, sent_by)
    served = pipeline.receiver.one("GET /api/v1/metrics", trace_id=asked_in)
    waited = pipeline.receiver.one("wait until landed", trace_id=asked_in)
    assert waited.parent_id == served.span_id
    assert [link[:2] for link in waited.links] == [(landed.trace_id, landed.span_id)]
    assert waited.links[0][2]["analytics.batch_id"] == landed.attributes["analytics.batch_id"]


def test_a_merge_links_to_the_landings_it_settled(pipeline):
    _, _, header = traceparent(0xE1)
    before = read(pipeline)
    send(pipeline, [31], header)
    wait_until_landed(pipeline.database, TOPIC, before + 1)
    batch = value(pipeline.database, "SELECT max(batch_id) FROM ingest_batches WHERE source = %s", TOPIC)
    settings = Settings.model_validate(
        {
            "kafka": {"group_id": pipeline.group},
            "tracing": {"enabled": True, "endpoint": pipeline.receiver.endpoint},
        }
    )
    with connect(pipeline.database, name="merge", autocommit=True) as opened:
        budget = timedelta(seconds=30)
        merging = merge_pending(opened, run_id="r", max_batches=500, budget=budget, failures={})
        assert list(traced(merging, settings, run_id="r"))
    landed = wait_for(
        lambda: [
            span
            for span in pipeline.receiver.spans("land batch")
            if span.attributes.get("analytics.batch_id") == batch
        ],
        20,
        "the landing span",
    )[0]
    merged = [
        span
        for span in pipeline.receiver.spans("merge hour")
        if (landed.trace_id, landed.span_id) in [link[:2] for link in span.links]
    ]
    assert len(merged) == 1
    assert merged[0].service == "b25-analytics-dagster"
    assert merged[0].attributes["dagster.run_id"] == "r"
