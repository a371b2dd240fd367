"""Kafka's own ids of topics: a topic that was deleted and made anew has the same name, another id, and other messages.

Belongs here: asking, and since when nobody has answered. Does not belong here: what a changed id means (`ownership`),
telling of the silence (`freshness`, `accounts`).
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

import structlog
from confluent_kafka import KafkaException, TopicCollection

from analytics_pipeline.ingest import accounts
from analytics_pipeline.ingest.consumer import Unanswered
from analytics_pipeline.ingest.topics import admin
from analytics_pipeline.settings import Kafka

_log = structlog.get_logger(__name__)

_INTERVAL = 1.0
_TIMEOUT = 5.0
_LOW_64 = (1 << 64) - 1


class TopicIdSource(Protocol):
    """Where ids come from."""

    def ask(self, topic: str) -> str | None:
        """The id now; None from brokers that have none.

        Raises:
            Unanswered: no answer, or no such topic.
        """

    def latest(self, topic: str) -> str | None:
        """The id that was heard last."""

    @property
    def silent_since(self) -> datetime | None:
        """Since when Kafka has answered nothing at all; None: it answers."""


class NoTopicIds:
    """A Kafka without ids: before 2.8, or in memory."""

    def ask(self, topic: str) -> str | None:  # noqa: ARG002
        """None."""
        return None

    def latest(self, topic: str) -> str | None:  # noqa: ARG002
        """None."""
        return None

    @property
    def silent_since(self) -> datetime | None:
        """None."""
        return None


class TopicIds:
    """Asks Kafka once a second about the topics of this process, in a thread of its own, and whenever told to."""

    def __init__(self, settings: Kafka, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._client = admin(settings)
        self._topics = settings.topics
        self._latest: Mapping[str, str | None] = {}
        self._now = now
        self._silent_since: datetime | None = None

    def ask(self, topic: str) -> str | None:
        """The id now."""
        try:
            found = self._describe([topic])
        except KafkaException as error:
            raise Unanswered(f"Kafka did not describe the topic {topic} ({error.args[0].name()})") from error
        self._latest = {**self._latest, **found}
        return found[topic]

    def latest(self, topic: str) -> str | None:
        """The id that was heard last."""
        return self._latest.get(topic)

    @property
    def silent_since(self) -> datetime | None:
        """Since when Kafka has answered none of these questions; an answer that refuses is one."""
        return self._silent_since

    def run(self, stop: threading.Event) -> None:
        """Until stopped, ask once a second."""
        while not stop.wait(_INTERVAL):
            self._ask_all()

    def _ask_all(self) -> None:
        asked_at, is_heard = self._now(), False
        for topic in self._topics:
            try:
                self._latest = {**self._latest, **self._describe([topic])}
                is_heard = True
            except KafkaException as error:
                # Codes below 0 are the client's own: nobody was reached.
                is_heard = is_heard or error.args[0].code() >= 0
                _log.debug("Kafka did not describe a topic", topic=topic, error=error.args[0].name())
        self._silent_since = None if is_heard else self._silent_since or asked_at
        accounts.silence(
            0.0 if self._silent_since is None else (self._now() - self._silent_since).total_seconds()
        )

    def _describe(self, topics: Iterable[str]) -> dict[str, str | None]:
        answers = self._client.describe_topics(TopicCollection(list(topics)), request_timeout=_TIMEOUT)
        return {topic: _text(answer.result(2 * _TIMEOUT).topic_id) for topic, answer in answers.items()}


def _text(topic_id: object) -> str | None:
    """Kafka's UUID as text; all zeros say that there is none."""
    high = topic_id.get_most_significant_bits()  # type: ignore[attr-defined]
    low = topic_id.get_least_significant_bits()  # type: ignore[attr-defined]
    value = (high & _LOW_64) << 64 | low & _LOW_64
    return str(UUID(int=value)) if value else None
