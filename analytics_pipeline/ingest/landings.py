"""What the landing loop needs of the database: the interface of `storage.landing.Lander`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.storage.landing import Deltas, Landed
from analytics_pipeline.storage.offsets import Claim, Partition, Span
from analytics_pipeline.storage.standings import Stop


class Landings(Protocol):
    """See `Lander` for the promises and the errors."""

    def claim(
        self, partition: Partition, first_offset: int, of_new_source: Mapping[int, int] | None = None
    ) -> Claim:
        """Become the owner."""

    def claims(self, partitions: Iterable[Partition]) -> Mapping[Partition, Claim]:
        """How things stand."""

    def history(self, partition: Partition) -> Sequence[tuple[int, int]]:
        """(read, dead) of its last batches, since a person last decided about it, oldest first."""

    def identify(self, partition: Partition, claimed: Claim, topic_id: str) -> str | None:
        """Which topic the offsets count in; noted if that was not known."""

    def deltas_ahead(self, decoded: Decoded) -> Deltas | None:
        """What can be computed before the transaction, by any thread."""

    def land(self, spans: Sequence[Span], decoded: Decoded, deltas: Deltas | None = None) -> Landed:
        """One transaction."""

    def resolve(self, spans: Sequence[Span]) -> bool:
        """Whether a batch landed whose COMMIT got no answer."""

    def note_caught_up(self, notes: Mapping[Partition, tuple[Claim, datetime]]) -> None:
        """How fresh idle partitions are."""

    def note_stops(self, notes: Mapping[Partition, tuple[Claim, Stop | None]]) -> None:
        """Which partitions are stopped."""

    def note_silence(self, since: datetime | None) -> None:
        """Since when Kafka does not answer this process; None: it does."""

    def close(self) -> None:
        """Disconnect."""
