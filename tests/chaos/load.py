"""Producing without a pause, and remembering exactly what Kafka has accepted: what must be in the tables later."""

import json
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
from confluent_kafka import Producer

from analytics_pipeline.events.ids import deterministic_ids, source_seed

_BURST = 20


class Kind(StrEnum):
    """What a message is, and how many in a hundred there are of it."""

    GOOD = "good"
    NO_ID = "no id"
    NO_TIME = "neither id nor time"
    LATE = "late"
    DUPLICATE = "duplicate"
    TWIN = "twin"
    BROKEN = "broken"
    TOMBSTONE = "tombstone"
    TOO_OLD = "too old"
    AHEAD = "too far ahead"

    @property
    def is_dead(self) -> bool:
        return self in (Kind.BROKEN, Kind.TOMBSTONE, Kind.TOO_OLD, Kind.AHEAD)


_WEIGHTS = {
    Kind.GOOD: 82,
    Kind.NO_ID: 4,
    Kind.NO_TIME: 1,
    Kind.LATE: 3,
    Kind.DUPLICATE: 3,
    Kind.TWIN: 2,
    Kind.BROKEN: 3,
    Kind.TOMBSTONE: 0.5,
    Kind.TOO_OLD: 0.5,
    Kind.AHEAD: 1,
}


@dataclass(frozen=True)
class Message:
    """`event_id` is None when the id follows from the coordinates, or when it is no event."""

    kind: Kind
    value: bytes | None
    event_id: str | None = None
    micros: int | None = None


@dataclass(frozen=True)
class Delivered:
    """A message at the place that Kafka gave it."""

    partition: int
    offset: int
    message: Message


class Load:
    """Sends to all partitions of a topic from a thread of its own, as long as the block lasts.

    Attributes:
        partitions: how many there are; may be raised while it runs.
        delivered: what Kafka has confirmed.
    """

    def __init__(self, kafka: str, topic: str, partitions: int, rng: random.Random, rate: int = 400) -> None:
        self.topic = topic
        self.partitions = partitions
        self.delivered: list[Delivered] = []
        self._rng = random.Random(rng.getrandbits(64))
        self._pause = _BURST / rate
        self._producer = Producer(
            {
                "bootstrap.servers": kafka,
                "enable.idempotence": True,
                "linger.ms": 5,
                "topic.metadata.refresh.interval.ms": 500,
                "delivery.timeout.ms": 300_000,
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )
        self._again: list[Message] = []
        self._errors: list[str] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Stop, and wait until everything is confirmed."""
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join(330)
            assert not self._thread.is_alive()
        assert self._producer.flush(300) == 0
        assert self._errors == []

    def send(self, count: int) -> None:
        """Without the thread: send so many messages, and wait until they are confirmed."""
        for number in range(count):
            self._send(self._make())
            if number % _BURST == 0:
                self._producer.poll(0)
        assert self._producer.flush(60) == 0
        assert self._errors == []

    def knows_partitions(self, count: int) -> bool:
        """Whether the producer has heard of so many."""
        return len(self._producer.list_topics(self.topic, timeout=5).topics[self.topic].partitions) >= count

    def ends(self) -> Counter[int]:
        """The end of each partition."""
        found: Counter[int] = Counter()
        for one in list(self.delivered):
            found[one.partition] = max(found[one.partition], one.offset + 1)
        return found

    def _run(self) -> None:
        while not self._is_over.wait(self._pause):
            for _ in range(_BURST):
                self._send(self._make())
            self._producer.poll(0)

    def _send(self, message: Message, partition: int | None = None) -> None:
        def confirmed(error: object, record: Any) -> None:
            if error is not None:
                self._errors.append(str(error))
            else:
                self.delivered.append(Delivered(record.partition(), record.offset(), message))

        where = self._rng.randrange(self.partitions) if partition is None else partition
        when = (
            {}
            if message.micros is None or message.kind is not Kind.NO_TIME
            else {"timestamp": message.micros // 1000}
        )
        self._producer.produce(self.topic, message.value, partition=where, on_delivery=confirmed, **when)
        if message.kind is Kind.GOOD and self._rng.random() < _WEIGHTS[Kind.TWIN] / 100:
            twin = Message(Kind.TWIN, message.value, message.event_id, message.micros)
            self._send(twin, where)

    def _make(self) -> Message:
        [kind] = self._rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        if kind is Kind.DUPLICATE and self._again:
            old = self._rng.choice(self._again)
            return Message(kind, old.value, old.event_id)
        makers: dict[Kind, Callable[[], Message]] = {
            Kind.BROKEN: self._broken,
            Kind.TOMBSTONE: lambda: Message(Kind.TOMBSTONE, None),
            Kind.NO_ID: lambda: self._event(Kind.NO_ID, has_id=False),
            Kind.NO_TIME: lambda: self._event(Kind.NO_TIME, has_id=False, has_time=False),
            Kind.LATE: lambda: self._event(Kind.LATE, timedelta(hours=-24 * self._rng.random())),
            Kind.TOO_OLD: lambda: self._event(Kind.TOO_OLD, timedelta(days=-30)),
            Kind.AHEAD: lambda: self._event(Kind.AHEAD, timedelta(hours=2)),
        }
        made = makers.get(kind, lambda: self._event(Kind.GOOD))()
        if made.kind in (Kind.GOOD, Kind.LATE) and self._rng.random() < 0.1:
            self._again.append(made)
        return made

    def _broken(self) -> Message:
        number = self._rng.randrange(1000)  # the same bytes may well come again: each is a dead letter
        return Message(Kind.BROKEN, self._rng.choice([b"broken %d", b'{"n": %d}', b"[%d]", b'"%d']) % number)

    def _event(
        self, kind: Kind, shift: timedelta = timedelta(0), *, has_id: bool = True, has_time: bool = True
    ) -> Message:
        at = datetime.now(UTC) + shift
        if not has_time:
            at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        body: dict[str, Any] = {
            "event_type": self._rng.choice(["order.placed", "order.filled", "page.view"]),
            "user_id": f"u{self._rng.randrange(50)}",
            "properties": {
                "symbol": self._rng.choice(["BTCUSDT", "ETHUSDT"]),
                "price": self._rng.randrange(1, 10_000) / 100,
                "quantity": self._rng.randrange(1, 10),
            },
        }
        if has_time:
            body["timestamp"] = at.isoformat()
        event_id = None
        if has_id:
            body["id"] = event_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        micros = round(at.timestamp() * 1_000_000)
        return Message(kind, json.dumps(body).encode(), event_id, micros)


def id_of(topic: str, delivered: Delivered) -> str:
    """The id of an accepted event, also when the producer sent none."""
    message = delivered.message
    if message.event_id is not None:
        return message.event_id
    assert message.micros is not None
    seeds = np.array([source_seed(topic, delivered.partition)], np.uint64)
    [[high, low]] = deterministic_ids(
        np.array([message.micros]), np.array([delivered.offset]), seeds
    ).tolist()
    return str(uuid.UUID(int=high << 64 | low))
