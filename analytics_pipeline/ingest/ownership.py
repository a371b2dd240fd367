"""Which partitions this worker owns: claiming what Kafka assigns, stopping what cannot be read.

Belongs here: everything between an assignment and the first message, and the loud stop of a partition.
Does not belong here: landing (`worker`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest.backoff import Backoff
from analytics_pipeline.ingest.consumer import Bounds, Consumer, Partition
from analytics_pipeline.ingest.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.ingest.landings import Landings
from analytics_pipeline.ingest.owned import Owned
from analytics_pipeline.telemetry import INGEST_PAUSED

_log = structlog.get_logger(__name__)


class Ownership:
    """The partitions of one worker, as Kafka and `ingest_offsets` see them.

    Args:
        is_from_start: whether a topic seen for the first time is read from its beginning or from its end.
        make_limit: a dead-letter limit for one partition.
        patience: seconds to wait before a partition that another process has claimed, but that Kafka leaves
            with us, is claimed again.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        landings: Landings,
        *,
        is_from_start: bool,
        make_limit: Callable[[], DeadLetterLimit],
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._landings = landings
        self._is_from_start = is_from_start
        self._make_limit = make_limit
        self._patience = patience
        self._clock = clock
        self._consumer: Consumer | None = None
        self._owned: dict[Partition, Owned] = {}
        self._unclaimed: dict[Partition, float] = {}
        self._backoff = Backoff()
        self.failure: BaseException | None = None
        """What went wrong inside a callback: callbacks must not raise, so the loop does."""

    def __iter__(self) -> Iterator[Owned]:
        """The partitions that are read."""
        return iter([owned for owned in list(self._owned.values()) if owned.stopped is None])

    def get(self, key: Partition) -> Owned | None:
        """A partition that is read."""
        owned = self._owned.get(key)
        return owned if owned is not None and owned.stopped is None else None

    @property
    def partitions(self) -> list[Partition]:
        """All that are claimed, stopped ones too."""
        return list(self._owned)

    def use(self, consumer: Consumer) -> None:
        """Nothing is owned any more: this is a new member of the group."""
        self.revoked(self.partitions)
        self._consumer = consumer

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Kafka's callback: claim, and answer where to start; what cannot be claimed now is tried again later."""
        try:
            self.revoked(self.partitions)
            self._unclaimed = dict.fromkeys(partitions, self._clock())
            self._claim_due()
        except BaseException as error:  # noqa: BLE001  (raised again by the loop)
            self.failure = error
            return {}
        _log.info("partitions assigned", partitions=_names(self._owned), unclaimed=_names(self._unclaimed))
        return self._positions()

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Kafka's callback: forget; whatever was in memory is read again by the next owner."""
        for key in partitions:
            owned = self._owned.pop(key, None)
            if owned is not None and owned.stopped is not None:
                INGEST_PAUSED.dec()
            self._unclaimed.pop(key, None)
        if partitions:
            _log.info("partitions revoked", partitions=_names(partitions))

    def claim_missing(self) -> None:
        """Claim what could not be claimed before, if it is time."""
        due = [key for key, at in self._unclaimed.items() if at <= self._clock()]
        if due and self._consumer is not None:
            before = len(self._owned)
            self._claim_due()
            if len(self._owned) > before:
                self._consumer.assign(self._positions())

    def lose(self, key: Partition) -> None:
        """Another process has claimed it; if Kafka doesn't take it from us soon, claim it back."""
        if self._owned.pop(key, None) is not None and self._consumer is not None:
            _log.warning("partition has another owner", topic=key[0], partition=key[1])
            self._consumer.pause([key])
            self._unclaimed[key] = self._clock() + self._patience

    def stop(self, key: Partition, why: str) -> None:
        """Stop reading a partition, loudly, until a person has looked at it."""
        owned = self._owned.get(key)
        if owned is None or owned.stopped is not None:
            return
        owned.rewind(owned.next_offset)
        owned.stopped = why
        INGEST_PAUSED.inc()
        _log.error(
            "partition stopped", topic=key[0], partition=key[1], next_offset=owned.next_offset, reason=why
        )

    def look_at_stopped(self) -> None:
        """Claim a stopped partition again when somebody has moved its offset (which raises the epoch)."""
        stopped = {key: owned for key, owned in self._owned.items() if owned.stopped is not None}
        if not stopped:
            return
        for key, row in self._landings.claims(stopped).items():
            if row.epoch != stopped[key].epoch:
                del self._owned[key]
                INGEST_PAUSED.dec()
                self._unclaimed[key] = self._clock()

    def _claim_due(self) -> None:
        for key in [key for key, at in self._unclaimed.items() if at <= self._clock()]:
            try:
                self._owned[key] = self._claim(key)
            except EnvironmentFault as error:
                wait = self._backoff.next()
                _log.warning(
                    "partition cannot be claimed yet", topic=key[0], partition=key[1], reason=str(error)
                )
                self._unclaimed = {k: max(at, self._clock() + wait) for k, at in self._unclaimed.items()}
                return
            self._backoff.reset()
            del self._unclaimed[key]

    def _claim(self, key: Partition) -> Owned:
        assert self._consumer is not None
        bounds = self._consumer.bounds(key)

        def first_offset(is_known_topic: bool) -> int:
            # Partitions added to a topic that is being read are new altogether: nothing of them was skipped.
            return bounds.low if self._is_from_start or is_known_topic else bounds.high

        owned = Owned(key, self._landings.claim(key, first_offset), self._make_limit())
        if not bounds.low <= owned.next_offset <= bounds.high:
            self._owned[key] = owned
            self.stop(key, unreadable(key, owned.next_offset, bounds))
        return owned

    def _positions(self) -> dict[Partition, int]:
        return {owned.key: owned.position for owned in self}


def unreadable(key: Partition, next_offset: int, bounds: Bounds) -> str:
    """Why a partition cannot go on, and what resolves it."""
    what = (
        f"offsets {next_offset} to {bounds.low} were deleted before they were read"
        if next_offset < bounds.low
        else f"the topic ends at {bounds.high}, before {next_offset}: it was made anew or truncated"
    )
    return f"{what}; look into it, then run `analytics offsets skip-to {key[0]} {key[1]} {bounds.low}`"


def _names(partitions: Mapping[Partition, object] | Sequence[Partition]) -> list[str]:
    return [f"{topic}/{number}" for topic, number in partitions]
