"""The producer against a service that is played here: what it is told, and what it makes of the answers."""

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import httpx
import pytest

import b25_client
from b25_client import (
    BufferFull,
    ClientError,
    Closed,
    EventProducer,
    Forked,
    InvalidEvent,
    NotDelivered,
    Producer,
    ProducerFailed,
    Result,
    Status,
    make_event,
)
from tests.waiting import wait_for

Answer = Callable[[list[dict]], httpx.Response]


class Service:
    """Keeps every request; answers are taken from `answers`, then everything is accepted."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[list[dict]] = []
        self.headers: list[httpx.Headers] = []
        self.is_open = threading.Event()
        self.is_open.set()
        self.entered = threading.Event()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.entered.set()
        assert self.is_open.wait(20)
        body = request.read()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        events = [json.loads(line) for line in body.splitlines()]
        self.requests.append(events)
        self.headers.append(request.headers)
        answer = self.answers.pop(0) if self.answers else accepted
        if isinstance(answer, Exception):
            raise answer
        return answer(events)

    @property
    def ids(self) -> list[str]:
        return [event["id"] for request in self.requests for event in request]


def accepted(events: list[dict]) -> httpx.Response:
    return httpx.Response(
        201,
        json={
            "success": True,
            "results": [
                {"index": number, "status": 201, "event_id": event["id"]}
                for number, event in enumerate(events)
            ],
        },
    )


def busy(status: int, **headers: str) -> Answer:
    return lambda events: httpx.Response(status, json={"title": "busy"}, headers=headers)


@contextmanager
def producing(service: Service, **options: object) -> Iterator[tuple[Producer, list[Result]]]:
    results: list[Result] = []
    options = {"linger": 0.0, "random": lambda: 0.01, "on_result": results.append} | options
    producer = Producer("http://service", transport=httpx.MockTransport(service), **options)
    try:
        yield producer, results
    finally:
        service.is_open.set()
        with suppress(NotDelivered, ProducerFailed):
            producer.close(timeout=5)


def test_every_event_has_a_result_when_flush_returns() -> None:
    service = Service()
    with producing(service, linger=30.0) as (producer, results):
        ids = [producer.send("page.view", {"n": n}) for n in range(25)]
        report = producer.flush(10)
        assert [result.id for result in results] == ids
        assert {result.status for result in results} == {Status.ACCEPTED}
        assert (report.sent, report.accepted, report.waiting) == (25, 25, 0)
    assert service.ids == [str(one) for one in ids]
    assert isinstance(producer, EventProducer)


def test_events_travel_together_within_the_bounds() -> None:
    service = Service()
    with producing(service, linger=30.0, batch_events=10) as (producer, _):
        for _ in range(20):
            producer.send("page.view")
        wait_for(lambda: len(service.requests) == 2)  # full batches do not linger
        producer.send("page.view", {"text": "x" * 100})
        producer.flush(10)
    assert [len(request) for request in service.requests] == [10, 10, 1]

    service = Service()
    with producing(service, linger=30.0, batch_bytes=1000) as (producer, _):
        for _ in range(20):
            producer.send("page.view", {"text": "x" * 200})
        producer.flush(10)
    assert len(service.requests) > 5
    assert len(service.ids) == len(set(service.ids)) == 20


def test_an_event_waits_no_longer_than_its_linger() -> None:
    service = Service()
    with producing(service, linger=0.01) as (producer, results):
        producer.send("page.view")
        wait_for(lambda: len(results) == 1)


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        busy(429, **{"Retry-After": "0"}),
        busy(503),
        busy(500),
        lambda events: httpx.Response(200, text="<html>a proxy</html>"),
        lambda events: httpx.Response(302, headers={"Location": "/login"}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_fails_is_sent_again_with_the_same_bytes(failure: object) -> None:
    service = Service(failure, failure)
    with producing(service, linger=30.0) as (producer, results):
        producer.send("page.view", {"n": 1})
        producer.send("page.view", {"n": 2})
        report = producer.flush(10)
    assert len(service.requests) == 3
    assert service.requests[0] == service.requests[1] == service.requests[2]
    assert (report.accepted, report.retries) == (2, 2)
    assert {result.attempts for result in results} == {3}


def test_retry_after_is_honoured() -> None:
    service = Service(busy(429, **{"Retry-After": "3600"}))
    with producing(service) as (producer, results):
        producer.send("page.view")
        wait_for(lambda: service.requests)
        with pytest.raises(NotDelivered, match=r"^1 events"):
            producer.close(0.3)
        assert len(service.requests) == 1
        assert [result.status for result in results] == [Status.UNDELIVERED]


def test_a_refused_event_has_the_services_reason_and_its_neighbours_are_accepted() -> None:
    def mixed(events: list[dict]) -> httpx.Response:
        items = [{"index": n, "status": 201, "event_id": event["id"]} for n, event in enumerate(events)]
        items[1] = {"index": 1, "status": 400, "reason": "schema_violation", "path": "$.properties.price"}
        items[2] = {"index": 2, "status": 503}
        return httpx.Response(207, json={"results": items})

    service = Service(mixed)
    with producing(service, linger=30.0) as (producer, results):
        ids = [producer.send("page.view") for _ in range(4)]
        producer.close()
        by_id = {result.id: result for result in results}
    assert len(by_id) == len(results) == 4
    refused = by_id[ids[1]]
    assert (refused.status, refused.reason) == (Status.REFUSED, "schema_violation")
    assert "$.properties.price" in refused.detail
    assert all(by_id[ids[n]].is_accepted for n in (0, 2, 3))
    assert by_id[ids[2]].attempts == 2
    report = producer.report()
    assert (report.accepted, report.refused, report.reasons) == (3, 1, {"schema_violation": 1})


def test_answers_that_name_only_what_was_refused_are_understood() -> None:
    def brief(events: list[dict]) -> httpx.Response:
        refused = {"index": 1, "status": 400, "reason": "too_old", "path": "$.timestamp"}
        return httpx.Response(
            207,
            json={"success": False, "accepted": 2, "rejected": 1, "landing": "a-0-2", "results": [refused]},
        )

    service = Service(brief)
    with producing(service, linger=30.0) as (producer, results):
        for _ in range(3):
            producer.send("page.view")
        producer.flush(10)
    assert [result.reason for result in results] == [None, "too_old", None]
    assert [result.landing for result in results] == ["a-0-2", None, "a-0-2"]
    assert [result.position for result in results] == [0, None, 1]
    assert service.headers[0]["prefer"] == "return=minimal"


def test_an_answer_that_does_not_add_up_is_no_acceptance() -> None:
    def wrong(events: list[dict]) -> httpx.Response:
        return httpx.Response(201, json={"success": True, "accepted": 2, "results": []})

    service = Service(wrong)
    with producing(service, linger=30.0) as (producer, _):
        for _ in range(3):
            producer.send("page.view")
        assert producer.flush(10).retries == 1
    assert service.requests[0] == service.requests[1]


def test_a_request_that_is_too_large_is_sent_in_halves() -> None:
    def small_only(events: list[dict]) -> httpx.Response:
        if len(events) > 2 or any(event["event_type"] == "huge" for event in events):
            return httpx.Response(413, json={"title": "too large"})
        return accepted(events)

    service = Service(*[small_only] * 50)
    with producing(service, linger=30.0) as (producer, results):
        ids = [producer.send("huge" if n == 5 else "page.view") for n in range(9)]
        producer.flush(10)
    assert sorted(result.id for result in results) == sorted(ids)
    [refused] = [result for result in results if not result.is_accepted]
    assert (refused.id, refused.reason) == (ids[5], "event_too_large")


@pytest.mark.parametrize(("status", "reason"), [(401, "not_authorized"), (404, "request_refused")])
def test_what_stays_wrong_is_not_tried_again(status: int, reason: str) -> None:
    service = Service(busy(status))
    with producing(service) as (producer, results):
        producer.send("page.view")
        producer.flush(10)
    assert len(service.requests) == 1
    assert [(result.status, result.reason) for result in results] == [(Status.REFUSED, reason)]


def test_what_cannot_be_delivered_in_time_is_said_to_be_undelivered() -> None:
    service = Service(*[httpx.ConnectError("refused")] * 1000)
    with producing(service, delivery_timeout=0.05) as (producer, results):
        event_id = producer.send("page.view")
        report = producer.flush(10)
    assert report.undelivered == 1
    [result] = results
    assert (result.id, result.reason) == (event_id, "delivery_timeout")
    assert "ConnectError" in result.detail

    second = Service()
    with producing(second) as (producer, _):
        producer.send_event(result.event)  # the same event again: the service recognises it
        producer.flush(10)
    assert second.ids == [str(event_id)]


def test_an_event_waits_for_its_result_no_longer_than_delivery_timeout() -> None:
    """Behind longer and longer pauses, behind others, and before a service that takes and never answers."""
    took: dict[UUID, float] = {}
    began: dict[UUID, float] = {}

    def ended(result: Result) -> None:
        took[result.id] = time.monotonic() - began[result.id]
        assert result.reason == "delivery_timeout"
        assert "no answer" in result.detail

    with socket.create_server(("127.0.0.1", 0)) as mute, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for port in (mute.getsockname()[1], closed.getsockname()[1]):
            with Producer(
                f"http://127.0.0.1:{port}", delivery_timeout=1.0, random=lambda: 0.99, on_result=ended
            ) as producer:
                for _ in range(3):
                    event = make_event("page.view")
                    began[event.id] = time.monotonic()
                    producer.send_event(event)
                    wait_for(lambda at=began[event.id]: time.monotonic() > at + 0.3)
                producer.flush(10)
    assert len(took) == 6
    assert all(0.95 < seconds < 1.4 for seconds in took.values()), took


def test_lingering_leaves_time_to_deliver() -> None:
    with producing(Service(), linger=3600.0, delivery_timeout=0.5) as (producer, results):
        producer.send("page.view")
        wait_for(lambda: results)
        assert producer.report().accepted == 1


def test_a_service_that_asks_to_wait_longer_is_not_asked_before_and_the_events_are_given_up() -> None:
    service = Service(busy(429, **{"Retry-After": "3600"}))
    with producing(service, delivery_timeout=0.3) as (producer, results):
        producer.send("page.view")
        wait_for(lambda: service.requests)
        producer.send("page.view")
        report = producer.flush(5)
    assert (report.undelivered, len(service.requests)) == (2, 1)
    assert [(one.reason, one.attempts) for one in results] == [
        ("delivery_timeout", 1),
        ("delivery_timeout", 0),
    ]
    assert all("429" in one.detail for one in results)


def test_events_that_run_out_of_time_one_by_one_are_not_sent_one_by_one() -> None:
    allowed: list[float] = []

    def hang(request: httpx.Request) -> httpx.Response:
        allowed.append(request.extensions["timeout"]["read"])
        raise httpx.ReadTimeout("slow")

    with Producer(
        "http://service",
        transport=httpx.MockTransport(hang),
        delivery_timeout=0.5,
        linger=0.0,
        random=lambda: 0.99,
    ) as producer:
        for _ in range(100):
            producer.send("page.view")
        producer.flush(10)
    assert all(0.2 <= seconds <= 0.5 for seconds in allowed)


def test_the_buffer_is_bounded() -> None:
    service = Service()
    service.is_open.clear()
    with producing(service, buffer_events=3, max_block=0.0) as (producer, _):
        for _ in range(3):
            producer.send("page.view")
        with pytest.raises(BufferFull):
            producer.send("page.view")
        assert producer.report().sent == 3
        service.is_open.set()
        producer.flush(10)
        producer.send("page.view")
    with producing(Service(), buffer_bytes=500) as (producer, _), pytest.raises(InvalidEvent, match="bytes"):
        producer.send("page.view", {"text": "x" * 500})


def test_a_full_buffer_makes_the_sender_wait_until_there_is_room() -> None:
    service = Service()
    service.is_open.clear()
    with producing(service, buffer_events=1, max_block=20.0) as (producer, results):
        producer.send("page.view")
        threading.Timer(0.05, service.is_open.set).start()
        producer.send("page.view")
        assert len(results) >= 1
        producer.flush(10)


def test_closing_sends_the_rest_and_then_refuses_more() -> None:
    service = Service()
    with producing(service, linger=30.0) as (producer, results):
        producer.send("page.view")
        assert producer.close().accepted == 1
        assert producer.close().accepted == 1
        with pytest.raises(Closed):
            producer.send("page.view")
    assert len(results) == 1


def test_closing_in_vain_says_what_was_given_up() -> None:
    service = Service(*[busy(503, **{"Retry-After": "3600"})] * 3)
    with producing(service, linger=0.0, batch_events=2) as (producer, results):
        for _ in range(5):
            producer.send("page.view")
        wait_for(lambda: service.requests)
        with pytest.raises(NotDelivered) as failure:
            producer.close(timeout=0.05)
    assert failure.value.left == 5
    assert [result.status for result in results] == [Status.UNDELIVERED] * 5
    assert {result.reason for result in results} == {"closed"}
    assert producer.report().waiting == 0


def test_leaving_the_context_keeps_the_error_that_is_on_its_way() -> None:
    service = Service(busy(503, **{"Retry-After": "3600"}))
    producer = Producer("http://service", transport=httpx.MockTransport(service))
    producer.close = lambda: EventProducer.close(producer, 0.05)  # type: ignore[method-assign]

    def work() -> None:
        with producer:
            producer.send("page.view")
            raise KeyError

    with pytest.raises(KeyError):
        work()


def test_a_callback_that_raises_is_told_and_loses_nothing() -> None:
    def callback(result: Result) -> None:
        raise ZeroDivisionError

    service = Service()
    with producing(service, linger=30.0, on_result=callback) as (producer, _):
        producer.send("page.view")
        producer.send("page.view")
        with pytest.raises(ProducerFailed) as failure:
            producer.flush(10)
        assert isinstance(failure.value.__cause__, ZeroDivisionError)
        with pytest.raises(ProducerFailed):
            producer.send("page.view")
        assert producer.report().accepted == 2


def test_flushing_waits_for_what_was_sent_before_and_no_longer() -> None:
    def answer_while_more_comes(events: list[dict]) -> httpx.Response:
        producer.send("later")
        service.is_open.clear()  # for the later one
        return accepted(events)

    service = Service(answer_while_more_comes)
    service.is_open.clear()
    with producing(service, linger=0.0) as (producer, results), ThreadPoolExecutor(1) as pool:
        sent = producer.send("before")
        flushed = pool.submit(producer.flush, 10)
        wait_for(lambda: producer._is_hurried)
        service.is_open.set()
        assert flushed.result(20).waiting == 1
        assert [result.id for result in results] == [sent]


def test_a_callback_may_send_but_not_wait() -> None:
    errors: list[Exception] = []

    def callback(result: Result) -> None:
        if result.event.event_type == "first":
            producer.send("second")
            for call in (lambda: producer.send("third"), producer.flush, producer.close):
                try:
                    call()
                except ClientError as error:
                    errors.append(error)

    service = Service()
    producer = Producer(
        "http://service",
        transport=httpx.MockTransport(service),
        on_result=callback,
        buffer_events=2,
        linger=0.0,
    )
    producer.send("first")
    wait_for(lambda: len(errors) == 3)
    producer.close()
    assert [type(error) for error in errors] == [BufferFull, ClientError, ClientError]
    assert [event["event_type"] for request in service.requests for event in request] == ["first", "second"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "localhost:9097"},
        {"client_id": ""},
        {"client_id": "ü"},
        {"client_id": "x" * 65},
    ],
)
def test_what_cannot_be_right_is_said_at_once(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"^(url|client_id): "):
        Producer(**{"url": "http://service"} | wrong)


def test_many_threads_may_send() -> None:
    service = Service()
    with producing(service, buffer_events=100, batch_events=30, linger=0.001) as (producer, results):
        ids: list[set] = [set() for _ in range(8)]

        def work(own: set) -> None:
            for _ in range(200):
                own.add(producer.send("page.view"))

        threads = [threading.Thread(target=work, args=(own,)) for own in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        producer.flush(20)
    assert len(service.ids) == 1600
    assert set(service.ids) == {str(one) for own in ids for one in own}
    assert len(results) == 1600


def test_requests_carry_the_name_and_own_headers_and_may_be_compressed() -> None:
    service = Service()
    with producing(service, client_id="orders", gzip=True, api_key="k", headers={"X-Own": "o"}) as (
        producer,
        _,
    ):
        producer.send("page.view")
        producer.flush(10)
    [headers] = service.headers
    assert headers["x-client-id"] == "orders"
    assert (headers["x-api-key"], headers["x-own"]) == ("k", "o")
    assert headers["content-type"] == "application/x-ndjson"
    assert headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("key", ["", "a b", "b25_\n", "schlüssel"])
def test_a_key_that_cannot_travel_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        Producer("http://localhost", api_key=key)
    assert not key or key not in str(caught.value)


def test_a_child_process_is_told_to_make_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with producing(Service()) as (producer, _):
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda: -1)
            for call in (lambda: producer.send("a"), producer.flush, producer.close):
                with pytest.raises(Forked):
                    call()
        producer.send("a")


_FORGETFUL = """
import sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import b25_client

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        sys.stdout.write(str(len(body.splitlines())))
        sys.stdout.flush()
        self.send_response(201)
        self.end_headers()
        self.wfile.write(b'{"success": true}')
    def log_message(self, *_): ...

server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
producer = b25_client.Producer(f"http://127.0.0.1:{server.server_port}", linger=3600)
for _ in range(7):
    producer.send("page.view")
"""


def test_a_process_that_ends_without_closing_sends_what_is_queued() -> None:
    folder = Path(b25_client.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", _FORGETFUL],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("7", "", 0)


def test_it_needs_nothing_of_the_service() -> None:
    folder = Path(b25_client.__file__).parents[1]
    program = "import sys, b25_client; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=folder
    )
    assert not {"analytics_pipeline", "api", "numpy", "confluent_kafka"} & set(done.stdout.split())
