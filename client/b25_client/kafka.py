"""`KafkaProducer`: the same over Kafka. Needs confluent-kafka.

Belongs here: librdkafka's producer behind the interface. Does not belong here: what an event is (`events`), what
librdkafka logs (`kafka_log`).

librdkafka batches, lingers and sends again by itself; with idempotence on, in order and without doubling. A result
says whether Kafka has the message; what becomes of it after that, the service's dead letters and statistics tell.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as LibrdkafkaProducer

from b25_client.errors import BufferFull, InvalidEvent
from b25_client.events import Event, make_event
from b25_client.interface import EventProducer, OnResult, check_name
from b25_client.kafka_log import LibrdkafkaLog
from b25_client.results import Result, Status

SETTINGS: Mapping[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "linger.ms": 20,
    "delivery.timeout.ms": 120_000,
    "queue.buffering.max.messages": 50_000,
}
"""What we advise; `options` wins over them, except `enable.idempotence`."""

HEADER = "client_id"
_POLL = 0.1
_TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE
_NO_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
_PROPAGATION_MS = 5_000
"""How long a topic may be unknown before that is believed; librdkafka's own 30 s are for clusters that have just made
it."""
_DELIVERY_TIMEOUTS = ("delivery.timeout.ms", "message.timeout.ms")


class KafkaProducer(EventProducer):
    """Sends events to a Kafka topic.

    Args:
        servers: bootstrap addresses, `host:port` with commas.
        topic: one that ingest reads (`kafka.topics`).
        client_id: name of this producer in the service's source statistics, sent as the header `client_id`.
        on_result: as for `Producer`.
        max_block: seconds that `send` waits for room, then it raises BufferFull.
        options: of librdkafka (SASL, TLS, …).

    Raises:
        ValueError: `client_id` cannot be right.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        *,
        client_id: str | None = None,
        on_result: OnResult | None = None,
        max_block: float = 60.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._topic = topic
        self._headers: dict[str, str | bytes | None] | None = (
            {HEADER: client_id} if check_name(client_id) is not None else None
        )
        self._max_block = max_block
        own = {"client.id": client_id} if client_id is not None else {}
        self._client = LibrdkafkaProducer(
            {
                **_settings(options or {}),
                **own,
                **(options or {}),
                "bootstrap.servers": servers,
                "enable.idempotence": True,
            },
            logger=LibrdkafkaLog(),
        )
        self._number = 0
        self._open: OrderedDict[int, None] = OrderedDict()
        """Numbers of the events without a result, oldest first."""
        self._refused: deque[tuple[int, Result]] = deque()
        """Results of what was not queued; told by the thread, as all are."""
        self._ending = threading.Event()
        super().__init__(on_result)
        self._thread = threading.Thread(target=self._run, name="b25-client-kafka", daemon=True)
        self._thread.start()

    def send(
        self,
        event_type: str,
        properties: Mapping[str, Any] | None = None,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        timestamp: datetime | None = None,
        id: UUID | None = None,
        key: str | None = None,
    ) -> UUID:
        """As `EventProducer.send`; events of one `key` stay in order."""
        self._check()
        if key is not None and not isinstance(key, str):
            raise InvalidEvent("key: it must be a string")
        event = make_event(
            event_type, properties, user_id=user_id, session_id=session_id, timestamp=timestamp, id=id
        )
        self.send_event(event, key=None if key is None else key.encode())
        return event.id

    def send_event(self, event: Event, *, key: bytes | None = None) -> None:
        """Queue an event; see `EventProducer.send_event`.

        Args:
            event: made by `make_event`, or that of a `Result`.
            key: events of one key stay in order; without one they are spread over the partitions.
        """
        self._check()
        with self._changed:
            self._report.sent += 1
            self._number = number = self._number + 1
            self._open[number] = None
        deadline = time.monotonic() + self._patience(self._max_block)
        while True:
            try:
                self._client.produce(
                    self._topic,
                    event.payload,
                    key,
                    headers=self._headers,
                    on_delivery=partial(self._delivered, number, event),
                )
            except BufferError:
                if not self._wait_for_change(deadline):
                    self._take_back(number)
                    raise BufferFull("librdkafka's queue is full: Kafka is slower than the sender") from None
            except KafkaException as error:
                if isinstance(error.args[0], KafkaError) and error.args[0].code() in _NO_TOPIC:
                    # Known by now, so librdkafka does not even queue it.
                    self._refused.append((number, self._undelivered(event, error.args[0])))
                    return
                self._take_back(number)
                raise InvalidEvent(f"Kafka's client refuses the message ({_name(error.args[0])})") from None
            else:
                return

    def _wait_for_change(self, deadline: float) -> bool:
        """Wait for a result of any event: there may be room then; False when it is too late."""
        with self._changed:
            return self._changed.wait(max(0.0, deadline - time.monotonic())) and not self._is_dead

    def _take_back(self, number: int) -> None:
        with self._changed:
            del self._open[number]
            self._report.sent -= 1
            self._changed.notify_all()

    def _hurry(self) -> None:
        """Nothing to do: flushing only waits, librdkafka's linger is short."""

    def _stop(self) -> None:
        self._client.purge()
        self._client.flush(1.0)
        self._ending.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        """Callbacks run here, and wherever `purge` and `flush` are called."""
        try:
            while not self._ending.is_set():
                self._client.poll(_POLL)
                for _ in range(len(self._refused)):  # those of now: the callback may send again
                    self._finish(*self._refused.popleft())
        except BaseException as error:
            self._die(error)
            raise

    def _last_sent(self) -> int:
        return self._number

    def _is_settled(self, last: int) -> bool:
        # Partitions overtake each other: only the oldest open event tells.
        return not self._open or next(iter(self._open)) > last

    def _delivered(self, number: int, event: Event, error: KafkaError | None, message: Message) -> None:
        if error is None:
            offset = message.offset()
            # Sent again after a lost answer, it may be there without librdkafka knowing where: no offset then.
            known = offset if offset is not None and offset >= 0 else None
            result = Result(event, Status.ACCEPTED, partition=message.partition(), offset=known)
        elif error.code() == _TOO_LARGE:
            result = Result(event, Status.REFUSED, "event_too_large", error.str())
        elif error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            result = Result(event, Status.UNDELIVERED, "closed", "the producer was closed")
        else:
            result = self._undelivered(event, error)
        self._finish(number, result)

    def _undelivered(self, event: Event, error: KafkaError) -> Result:
        reason = "unknown_topic" if error.code() in _NO_TOPIC else "delivery_timeout"
        detail = f"topic {self._topic}: {error.name()}: {error.str()}"
        return Result(event, Status.UNDELIVERED, reason, detail)

    def _finish(self, number: int, result: Result) -> None:
        self._settle([result])
        with self._changed:
            del self._open[number]
            self._changed.notify_all()


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """What we advise, and an unknown topic noticed before the events run out of time, which would hide it."""
    timeout = next((int(options[name]) for name in _DELIVERY_TIMEOUTS if name in options), None)
    wait = _PROPAGATION_MS if not timeout else min(_PROPAGATION_MS, timeout // 2)
    advised = {**SETTINGS, "topic.metadata.propagation.max.ms": wait}
    if timeout is not None:
        del advised["delivery.timeout.ms"]  # it has two names, and may be given once
    return advised


def _name(error: object) -> str:
    return str(error.name()) if isinstance(error, KafkaError) else type(error).__name__
