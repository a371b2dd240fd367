"""The Kafka producer without a Kafka: what it says when nothing goes out."""

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

import b25_client
from b25_client import BufferFull, Closed, InvalidEvent, NotDelivered, Result, Status
from b25_client.kafka import KafkaProducer
from b25_client.kafka_log import LibrdkafkaLog

NOWHERE = "127.0.0.1:1"
QUIET = {"log_level": 0, "queue.buffering.max.messages": 1}


def test_a_full_queue_makes_the_sender_wait_and_then_tells() -> None:
    results: list[Result] = []
    producer = KafkaProducer(NOWHERE, "t", on_result=results.append, max_block=0.05, options=QUIET)
    sent = producer.send("first", key="k")
    began = time.monotonic()
    with pytest.raises(BufferFull):
        producer.send("second")
    assert time.monotonic() - began >= 0.05
    assert producer.report().sent == 1
    with pytest.raises(NotDelivered) as failure:
        producer.close(0.1)
    assert failure.value.left == 1
    assert [(result.id, result.status, result.reason) for result in results] == [
        (sent, Status.UNDELIVERED, "closed")
    ]
    assert producer.report().waiting == 0
    with pytest.raises(Closed):
        producer.send("third")
    producer.close()


def test_a_key_that_is_no_text_is_refused_at_once() -> None:
    producer = KafkaProducer(NOWHERE, "t", options=QUIET)
    with pytest.raises(InvalidEvent, match=r"^key: "):
        producer.send("first", key=7)  # type: ignore[arg-type]
    assert producer.close().sent == 0


def test_a_broker_that_is_away_is_logged_once_and_not_on_stderr() -> None:
    program = """if True:
        import logging, sys, time
        sys.path.insert(0, sys.argv[1])
        from b25_client.kafka import KafkaProducer
        lines = []
        class Keep(logging.Handler):
            def emit(self, record):
                lines.append(record.getMessage())
        if sys.argv[2] == "kept":
            logging.getLogger("b25_client").addHandler(Keep())
        options = {"delivery.timeout.ms": 1500, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 20}
        with KafkaProducer("127.0.0.1:1", "t", options=options) as producer:
            producer.send("first")
        print(len(lines), *lines[:1])
    """
    folder = Path(b25_client.__file__).parents[1]

    def run(how: str) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder), how], capture_output=True, text=True, check=True
        )
        return done.stdout, done.stderr

    kept, errors = run("kept")
    assert kept.startswith(("1 FAIL ", "2 FAIL "))  # 2: "all brokers are down" is a kind of its own
    assert "127.0.0.1:1" in kept
    assert errors == ""
    assert run("mute") == ("0\n", "")


def test_the_same_is_logged_again_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = LibrdkafkaLog(lambda: now[0])
    for seconds, text in (
        (0, "refused (after 1ms)"),
        (1, "refused (after 20ms)"),
        (2, "timed out"),
        (301, "refused"),
    ):
        now[0] = seconds
        log.log(logging.ERROR, "%s [%s] %s", "FAIL", "rdkafka#producer-1", text)
    assert [line.rpartition("] ")[2] for line in caplog.messages] == [
        "refused (after 1ms)",
        "timed out",
        "refused",
    ]
    for number in range(1_000):
        log.log(logging.ERROR, "kind %s", f"x{number}y")
    assert len(log._logged) <= 100


def test_a_name_that_the_service_would_not_keep_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^client_id: "):
        KafkaProducer(NOWHERE, "t", client_id="two words")
