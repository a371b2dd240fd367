"""`Landings` on a thread of its own, so that one batch is read and decoded while the one before it lands.

Belongs here: that a landing connection is used by one thread, one call after the other, in the order asked.
Does not belong here: what may be read ahead, and what a failure means for it (`worker`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

import pyarrow as pa

from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.ingest.landings import Landings
from analytics_pipeline.storage.landing import Landed
from analytics_pipeline.storage.offsets import Claim, Partition, Span


class LandingThread:
    """See `Landings`; calls of the database, but for `launch`, wait for their result and for all calls before them."""

    def __init__(self, landings: Landings) -> None:
        self._landings = landings
        self._thread = ThreadPoolExecutor(1, "landing")

    def deltas_ahead(self, decoded: Decoded) -> pa.Table | None:
        """What can be computed before the transaction: by the caller's thread."""
        return self._landings.deltas_ahead(decoded)

    def launch(
        self, spans: Sequence[Span], decoded: Decoded, deltas: pa.Table | None = None
    ) -> Future[Landed]:
        """Begin to land a batch; the result has the outcome or the error of `land`."""
        return self._thread.submit(self._landings.land, spans, decoded, deltas)

    def land(self, spans: Sequence[Span], decoded: Decoded, deltas: pa.Table | None = None) -> Landed:
        """One transaction."""
        return self.launch(spans, decoded, deltas).result()

    def claim(self, partition: Partition, first_offset: Callable[[bool], int]) -> Claim:
        """Become the owner."""
        return self._thread.submit(self._landings.claim, partition, first_offset).result()

    def claims(self, partitions: Iterable[Partition]) -> Mapping[Partition, Claim]:
        """How things stand."""
        return self._thread.submit(self._landings.claims, list(partitions)).result()

    def history(self, partition: Partition) -> Sequence[tuple[int, int]]:
        """(read, dead) of its last batches."""
        return self._thread.submit(self._landings.history, partition).result()

    def identify(self, partition: Partition, claimed: Claim, topic_id: str) -> str | None:
        """Which topic the offsets count in."""
        return self._thread.submit(self._landings.identify, partition, claimed, topic_id).result()

    def resolve(self, spans: Sequence[Span]) -> bool:
        """Whether a batch landed whose COMMIT got no answer."""
        return self._thread.submit(self._landings.resolve, spans).result()

    def note_caught_up(self, notes: Mapping[Partition, tuple[Claim, datetime]]) -> None:
        """How fresh idle partitions are."""
        self._thread.submit(self._landings.note_caught_up, notes).result()

    def close(self) -> None:
        """Disconnect, and end the thread."""
        self._thread.submit(self._landings.close).result()
        self._thread.shutdown()
