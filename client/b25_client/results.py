"""What became of the events that were sent.

Belongs here: the answer about one event, and the sums. Does not belong here: reading answers of the service (`rest`).
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from b25_client.events import Event


class Status(StrEnum):
    """How sending ended."""

    ACCEPTED = "accepted"
    """Durable: the service committed it (REST), or Kafka has it on all in-sync replicas."""
    REFUSED = "refused"
    """It will never be accepted as it is; `reason` says why."""
    UNDELIVERED = "undelivered"
    """Nobody knows: the service could not be reached in time. Sending the same event again is safe."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one event.

    Attributes:
        reason: the reason code of docs/dead-letters.md when the service refused the event, else a word of the
            client's own: `event_too_large`, `not_authorized`, `request_refused`, `delivery_timeout`, `unknown_topic`,
            `closed`.
        detail: one sentence for a person; it may name a path within the event, never its data.
        attempts: how often the event was sent.
        landing: token of the request that was accepted: `GET /api/v1/events/landings/{landing}` tells what landing made
            of its events.
        position: which of them this one is, from 0.
        partition: where Kafka keeps an accepted event (`KafkaProducer` only).
        offset: its offset there; None also when Kafka did not tell.
    """

    event: Event
    status: Status
    reason: str | None = None
    detail: str = ""
    attempts: int = 1
    landing: str | None = None
    position: int | None = None
    partition: int | None = None
    offset: int | None = None

    @property
    def id(self) -> UUID:
        """The event's id."""
        return self.event.id

    @property
    def timestamp(self) -> datetime:
        """The event's time."""
        return self.event.timestamp

    @property
    def is_accepted(self) -> bool:
        """Whether it is durable."""
        return self.status is Status.ACCEPTED


@dataclass(slots=True)
class Report:
    """Sums over all events of a producer so far.

    Attributes:
        sent: given to `send`.
        reasons: of the refused and undelivered ones.
        retries: requests that were sent again.
    """

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    undelivered: int = 0
    retries: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def waiting(self) -> int:
        """Events without a result."""
        return self.sent - self.accepted - self.refused - self.undelivered

    def add(self, result: Result) -> None:
        """Count one result."""
        match result.status:
            case Status.ACCEPTED:
                self.accepted += 1
            case Status.REFUSED:
                self.refused += 1
            case Status.UNDELIVERED:
                self.undelivered += 1
        if result.reason is not None:
            self.reasons[result.reason] += 1

    def copy(self) -> "Report":
        """A snapshot."""
        return Report(
            self.sent, self.accepted, self.refused, self.undelivered, self.retries, Counter(self.reasons)
        )
