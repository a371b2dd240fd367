"""The client against the real service: a restless API, a refusing one, and Kafka."""

import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

import b25_client
from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.source_statistics import read
from b25_client import Producer, Result, Status
from b25_client.kafka import KafkaProducer
from tests.integration.landing_rig import check_books, claim, decode, decode_inbox, rows, span, value
from tests.integration.restless_api import running_api
from tests.waiting import wait_for

DOCUMENTATION = (Path(__file__).parents[2] / "docs/producers.md").read_text()
_EVENTS = 10_000
_KILLS = 2


def land_all(database: str) -> None:
    lander = Lander(database, name="landing-test")
    while lander.land_inbox(20_000, decode_inbox) is not None:
        pass
    lander.close()


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_while_the_api_is_killed_again_and_again(database: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    kill_at = sorted(generator.sample(range(500, _EVENTS - 500), _KILLS))
    results: list[Result] = []
    enough = threading.Event()

    def on_result(result: Result) -> None:
        results.append(result)
        if len(results) >= 1 + kill_at[0]:
            enough.set()

    with running_api(database) as api:
        producer = Producer(
            api.url,
            on_result=on_result,
            batch_events=200,
            linger=0.005,
            buffer_events=1_000,
            request_timeout=5,
        )
        sent: list[str] = []

        def send() -> None:
            sent.extend(str(producer.send("page.view", {"n": n})) for n in range(_EVENTS))

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(_KILLS):
            assert enough.wait(60)
            api.kill()
            assert len(results) < _EVENTS, "the kill came too late to hit anything"
            if len(kill_at) > 1:
                kill_at.pop(0)
                enough.clear()
            api.start()
        sender.join(120)
        report = producer.close(120)
    assert (report.accepted, report.waiting) == (_EVENTS, 0)
    assert report.retries >= _KILLS
    assert Counter(str(result.id) for result in results) == Counter(sent)

    land_all(database)
    assert Counter(str(row[0]) for row in rows(database, "SELECT id FROM events")) == Counter(sent)
    check_books(database)
    repeated = value(database, "SELECT sum(duplicate) FROM ingest_batches")
    print(f"{report.retries} requests were sent again, {repeated} events came twice and were recognised")


@pytest.mark.slow
def test_each_event_learns_its_own_fate(database: str) -> None:
    with (
        running_api(database) as api,
        Producer(api.url, client_id="orders", batch_events=10_000, linger=30) as producer,
    ):
        results: dict[str, Result] = {}
        producer._on_result = lambda result: results.update({result.event.event_type: result})
        old = datetime.now(UTC) - timedelta(days=400)
        producer.send("good.one", {"price": 1})
        producer.send("too.old", timestamp=old)
        producer.send("too.large", {"text": "x" * 2000})
        producer.send("bad\x07name")
        producer.send("good.two")
        report = producer.flush(30)
    assert (report.accepted, report.refused, report.retries) == (2, 3, 0)
    assert {name: (one.status, one.reason) for name, one in results.items()} == {
        "good.one": (Status.ACCEPTED, None),
        "good.two": (Status.ACCEPTED, None),
        "too.old": (Status.REFUSED, "too_old"),
        "too.large": (Status.REFUSED, "property_too_large"),
        "bad\x07name": (Status.REFUSED, "bad_event_type"),
    }
    assert results["too.large"].detail.startswith("$.properties")
    assert results["good.one"].landing == results["good.two"].landing is not None
    assert (results["good.one"].position, results["good.two"].position) == (0, 1)
    land_all(database)
    assert {row[0] for row in rows(database, "SELECT event_type FROM events")} == {"good.one", "good.two"}
    assert rows(database, "SELECT source, producer, read FROM source_statistics_live") == [
        ("http", "orders", 2)
    ]


@pytest.mark.slow
def test_more_than_the_service_takes_at_once_goes_in_parts(database: str) -> None:
    limits = {"B25_SERVER__MAX_BATCH_EVENTS": "7", "B25_SERVER__MAX_BODY_SIZE": "2048"}
    with (
        running_api(database, **limits) as api,
        Producer(api.url, batch_events=40, linger=30, gzip=True) as producer,
    ):
        sent = {str(producer.send("page.view", {"n": n})) for n in range(40)}
        assert producer.flush(30).accepted == 40
    land_all(database)
    assert {str(row[0]) for row in rows(database, "SELECT id FROM events")} == sent


@pytest.mark.slow
def test_over_kafka_every_event_has_a_result_and_names_its_producer(
    kafka: str, topic: Callable[..., str], database: str
) -> None:
    name = topic(1)
    results: list[Result] = []
    with KafkaProducer(kafka, name, client_id="risk", on_result=results.append) as producer:
        sent = [producer.send("page.view", {"n": n}) for n in range(500)]
        report = producer.flush(30)
    assert (report.accepted, report.waiting) == (500, 0)
    assert sorted(result.id for result in results) == sorted(sent)

    messages = []
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(name, 0, 0)])
    wait_for(lambda: messages.extend(consumer.consume(500, 0.5)) or len(messages) == 500, 30)
    consumer.close()
    told = {(result.partition, result.offset): result.event.payload for result in results}
    assert told == {(message.partition(), message.offset()): message.value() for message in messages}
    lander = Lander(database, name="landing-test")
    owner = claim(database, (name, 0))
    lander.land([span(owner, messages, name)], decode([RawBatch(name, 0, messages)]))
    lander.close()
    assert {row[0] for row in rows(database, "SELECT id FROM events")} == set(sent)
    now = datetime.now(UTC)
    with connection(database, name="test") as opened:
        [one] = read(opened, since=now - timedelta(hours=1), until=now + timedelta(seconds=5))
    assert (one.source, one.producer, one.read, one.stored) == (name, "risk", 500, 500)
    assert one.lateness_p99_ms is not None
    assert one.lateness_p99_ms < 30_000


def test_a_kafka_that_is_away_leaves_nothing_unsaid() -> None:
    results: list[Result] = []
    options = {"delivery.timeout.ms": 300, "message.timeout.ms": 300, "log_level": 0}
    producer = KafkaProducer(f"127.0.0.1:{free_port()}", "t", on_result=results.append, options=options)
    sent = producer.send("page.view")
    report = producer.close(30)
    assert (report.undelivered, report.waiting) == (1, 0)
    [result] = results
    assert (result.id, result.status) == (sent, Status.UNDELIVERED)
    assert result.reason == "delivery_timeout"
    assert (result.partition, result.offset) == (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [None, "delivery.timeout.ms", "message.timeout.ms"])
def test_a_topic_that_does_not_exist_is_told_soon_and_by_name(kafka: str, timeout: str | None) -> None:
    results: list[Result] = []
    options = {} if timeout is None else {timeout: 4_000}
    producer = KafkaProducer(kafka, "no.such.topic", on_result=results.append, options=options)
    began = time.monotonic()
    producer.send("page.view")
    producer.flush(20)
    assert time.monotonic() - began < 15
    producer.send("page.view")  # now librdkafka knows
    report = producer.close(20)
    assert (report.undelivered, report.waiting) == (2, 0)
    assert report.reasons == {"unknown_topic": 2}
    assert all("no.such.topic" in result.detail for result in results)


def test_a_message_that_kafka_would_not_take_is_refused_at_once(
    kafka: str, topic: Callable[..., str]
) -> None:
    with KafkaProducer(kafka, topic(1), options={"message.max.bytes": 2000}) as producer:
        with pytest.raises(ValueError, match="MSG_SIZE_TOO_LARGE"):
            producer.send("page.view", {"text": "x" * 3000})
        producer.send("page.view")
        assert producer.flush(30).accepted == 1


@pytest.mark.slow
def test_the_documented_programs_send_their_events(
    kafka: str, topic: Callable[..., str], database: str
) -> None:
    rest, after_crash, over_kafka, noting = re.findall(r"```python\n(.*?)```", DOCUMENTATION, re.DOTALL)
    name = topic(1)
    with running_api(database) as api:
        done = _run(rest.replace("http://localhost:9097", api.url))
        assert done == "1000 accepted, 0 refused {}\n"
        assert _run(after_crash.replace("http://localhost:9097", api.url)) == "4 accepted\n"
    _run(over_kafka.replace("localhost:9092", kafka).replace("order.events", name))
    land_all(database)
    assert rows(database, "SELECT event_type, count(*) FROM events GROUP BY 1") == [("order.placed", 1003)]
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test"})
    assert consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=10) == (0, 1)
    consumer.close()
    compile(noting, "producers.md", "exec")


@pytest.mark.slow
def test_the_documented_request_is_answered_as_documented(database: str) -> None:
    [lines] = re.findall(r"<<END\n(.*?)END\n", DOCUMENTATION, re.DOTALL)
    body = lines.replace("$NOW", datetime.now(UTC).isoformat())
    while "$(uuidgen)" in body:
        body = body.replace("$(uuidgen)", str(uuid4()), 1)
    with running_api(database) as api:
        headers = {"Content-Type": "application/x-ndjson", "X-Client-Id": "my-script"}
        answer = httpx.post(f"{api.url}/api/v1/events", content=body, headers=headers)
    assert answer.status_code == 207
    good, bad = answer.json()["results"]
    assert good["status"] == 201
    assert {name: bad[name] for name in ("status", "reason", "path")} == {
        "status": 400,
        "reason": "bad_timestamp",
        "path": "$.timestamp",
    }
    land_all(database)
    assert rows(database, "SELECT producer, read FROM source_statistics_live") == [("my-script", 1)]


def _run(program: str) -> str:
    folder = Path(b25_client.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
