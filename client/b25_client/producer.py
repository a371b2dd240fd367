"""`Producer`: events over REST, in batches, by a thread in the background.

Belongs here: the buffer, when a batch goes, and sending again. Does not belong here: HTTP (`rest`).

An event leaves the buffer only with a result. Whatever fails on the way, the same bytes are sent again, with the same
id and timestamp, so the service recognises what it has already.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from b25_client.backoff import wait_before
from b25_client.errors import BufferFull, InvalidEvent
from b25_client.events import Event
from b25_client.interface import EventProducer, OnResult, check_name
from b25_client.keys import find_api_key
from b25_client.rest import Answer, Rest
from b25_client.results import Result, Status

_STOP_MARGIN = 1.0
_SHORTEST_ATTEMPT = 0.2
"""Seconds that a request may take however little time is left: events that run out of time one after the other must
not become requests one after the other."""


@dataclass(slots=True)
class _Queued:
    event: Event
    at: float
    attempts: int = 0


class Producer(EventProducer):
    """Sends events to `POST /api/v1/events`.

    Args:
        url: of the service, such as `http://localhost:9097`.
        client_id: name of this producer in the service's source statistics.
        on_result: called for every event with what became of it, by the background thread: keep it short. If it
            raises, the producer stops taking events and says so.
        linger: seconds that an event may wait for others to travel with; at most half of `delivery_timeout`.
        batch_events: most events in a request.
        batch_bytes: most bytes in a request.
        buffer_events: most events without a result; `send` waits when there are so many.
        buffer_bytes: most bytes of them.
        max_block: seconds that `send` waits for room, then it raises BufferFull; 0 never waits.
        request_timeout: seconds for one request.
        delivery_timeout: seconds from `send` until an event that cannot be delivered is `undelivered`, however long
            the service asked to wait.
        gzip: compress requests; worth it over a slow network, not on one machine.
        api_key: of the service, where it asks for one, else the environment variable ANALYTICS_API_KEY; needs the
            scope `write`.
        headers: of every request, for a proxy on the way for example.
        transport: for tests; an httpx transport instead of the network.

    Raises:
        ValueError: `url`, `client_id` or `api_key` cannot be right.
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str | None = None,
        on_result: OnResult | None = None,
        linger: float = 0.05,
        batch_events: int = 1_000,
        batch_bytes: int = 1_000_000,
        buffer_events: int = 50_000,
        buffer_bytes: int = 64_000_000,
        max_block: float = 60.0,
        request_timeout: float = 10.0,
        delivery_timeout: float = 120.0,
        gzip: bool = False,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        name = check_name(client_id)
        own_headers = {"X-Client-Id": name} if name is not None else {}
        if (key := find_api_key(api_key)) is not None:
            own_headers["X-API-Key"] = key
        self._rest = Rest(
            url,
            headers={**own_headers, **(headers or {})},
            use_gzip=gzip,
            transport=transport,
        )
        self._linger = min(linger, delivery_timeout / 2)
        self._batch_events = max(1, batch_events)
        self._batch_bytes = batch_bytes
        self._buffer_events = max(1, buffer_events)
        self._buffer_bytes = buffer_bytes
        self._max_block = max_block
        self._request_timeout = request_timeout
        self._delivery_timeout = delivery_timeout
        self._random = random
        self._not_before = 0.0
        """When the service, which asked to wait, may be asked again."""
        self._trouble = ""
        """Why the last attempt failed, for events whose turn does not come."""
        self._queue: deque[_Queued] = deque()
        self._bytes = 0
        self._completed = 0
        """Events of batches that are done: batches go one after the other."""
        self._is_hurried = False
        self._is_stopping = False
        super().__init__(on_result)
        self._thread = threading.Thread(target=self._run, name="b25-client-producer", daemon=True)
        self._thread.start()

    def send_event(self, event: Event) -> None:
        """Queue an event; see `EventProducer.send_event`."""
        self._check_process()
        size = len(event.payload)
        if size > min(self._batch_bytes, self._buffer_bytes):
            raise InvalidEvent(f"the event has {size} bytes, more than a request may have (batch_bytes)")
        with self._changed:
            self._check_open()
            if not self._changed.wait_for(lambda: self._has_room(size), self._patience(self._max_block)):
                raise BufferFull(f"{self._report.waiting} events are waiting for the service")
            self._check_open()
            self._queue.append(_Queued(event, time.monotonic()))
            self._bytes += size
            self._report.sent += 1
            # The thread sleeps until the first event, or until a batch is full; others need not wake it.
            if len(self._queue) == 1 or self._is_full():
                self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        if self._is_closed or self._failure is not None:
            return True  # to be told so
        return self._report.waiting < self._buffer_events and self._bytes + size <= self._buffer_bytes

    def _last_sent(self) -> int:
        return self._report.sent

    def _is_settled(self, last: int) -> bool:
        return self._completed >= last

    def _forget(self, results: list[Result]) -> None:
        self._bytes -= sum(len(result.event.payload) for result in results)

    def _hurry(self) -> None:
        with self._changed:
            self._is_hurried = True
            self._changed.notify_all()

    def _stop(self) -> None:
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(self._request_timeout + _STOP_MARGIN)
        self._rest.close()

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                self._deliver(batch)
                with self._changed:
                    self._completed += len(batch)
                    self._changed.notify_all()
            with self._changed:
                left = list(self._queue)
                self._queue.clear()
            self._give_up(left, "closed", "the producer was closed")
        except BaseException as error:
            self._die(error)
            raise

    def _next_batch(self) -> list[_Queued] | None:
        """Wait for a batch that is full or old enough; None when it is time to stop."""
        with self._changed:
            while not self._is_stopping:
                if not self._queue:
                    self._is_hurried = False
                    self._changed.wait()
                    continue
                left = self._queue[0].at + self._linger - time.monotonic()
                if self._is_hurried or left <= 0 or self._is_full():
                    return self._cut()
                self._changed.wait(left)
            return None

    def _is_full(self) -> bool:
        # When the thread asks, nothing is in flight: all bytes are those of the queue.
        return len(self._queue) >= self._batch_events or self._bytes >= self._batch_bytes

    def _cut(self) -> list[_Queued]:
        batch: list[_Queued] = []
        size = 0
        while self._queue and len(batch) < self._batch_events:
            size += len(self._queue[0].event.payload) + 1
            if batch and size > self._batch_bytes:
                break
            batch.append(self._queue.popleft())
        return batch

    def _deliver(self, batch: list[_Queued]) -> None:
        """Send until every event has a result; in halves where the whole is too large."""
        parts = deque([batch])
        while parts:
            part, attempt, pause = parts.popleft(), 0, 0.0
            while part := self._when_due(part, pause):
                attempt += 1
                answer = self._post(part, is_repeated=attempt > 1)
                part = self._take(part, answer)
                if answer.is_too_large and part:
                    if len(part) == 1:
                        detail = "the service takes no request of this size"
                        self._settle([_result(part[0], Status.REFUSED, "event_too_large", detail)])
                    else:
                        middle = len(part) // 2
                        parts.extendleft([part[middle:], part[:middle]])
                    break
                pause = wait_before(attempt, answer.wait, self._random)
                self._not_before = 0.0 if answer.wait is None else time.monotonic() + pause
                self._trouble = answer.trouble if part else ""

    def _when_due(self, part: list[_Queued], pause: float) -> list[_Queued]:
        """Wait for the next attempt, and give up what runs out of time meanwhile; the rest, oldest first."""
        due = max(time.monotonic() + pause, self._not_before)
        while part:
            now = time.monotonic()
            oldest = now - self._delivery_timeout
            if part[0].at <= oldest:
                late = [queued for queued in part if queued.at <= oldest]
                detail = self._trouble or "its turn did not come in time"
                self._give_up(late, "delivery_timeout", detail)
                part = part[len(late) :]
            elif due <= now:
                return part
            elif not self._wait(min(due - now, part[0].at - oldest)):
                self._give_up(part, "closed", f"the producer was closed; {self._trouble}")
                return []
        return []

    def _post(self, part: Sequence[_Queued], *, is_repeated: bool) -> Answer:
        """Send once, for as long as the oldest event may still take."""
        for queued in part:
            queued.attempts += 1
        if is_repeated:
            with self._changed:
                self._report.retries += 1
        left = part[0].at + self._delivery_timeout - time.monotonic()
        timeout = min(self._request_timeout, max(left, _SHORTEST_ATTEMPT))
        return self._rest.post([queued.event for queued in part], timeout)

    def _take(self, part: list[_Queued], answer: Answer) -> list[_Queued]:
        """Settle what has a verdict; the rest."""
        left, results = [], []
        for queued, verdict in zip(part, answer.verdicts, strict=True):
            if verdict is None:
                left.append(queued)
            else:
                results.append(
                    Result(
                        queued.event,
                        verdict.status,
                        verdict.reason,
                        verdict.detail,
                        queued.attempts,
                        verdict.landing,
                        verdict.position,
                    )
                )
        self._settle(results)
        return left

    def _wait(self, seconds: float) -> bool:
        """Wait before the next attempt; whether to go on."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._is_stopping, seconds)

    def _give_up(self, given_up: Iterable[_Queued], reason: str, detail: str) -> None:
        results = [_result(queued, Status.UNDELIVERED, reason, detail) for queued in given_up]
        if results:
            self._settle(results)


def _result(queued: _Queued, status: Status, reason: str | None, detail: str) -> Result:
    return Result(queued.event, status, reason, detail, queued.attempts)
