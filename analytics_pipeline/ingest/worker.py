"""The landing loop of one connection: fetch, gather, decode, land; and what each failure leads to.

Belongs here: the order of things and the timing. Does not belong here: Kafka's client (`kafka`), the transaction
(`storage.landing`), who owns what (`ownership`).

A batch stays in memory until it has landed. Whatever fails, the loop goes on fetching (with partitions paused), so
that Kafka keeps us in the group and can take partitions away.

Behind a backlog the next batch is fetched and decoded while one lands. It begins to land when the one before it has
landed, and is forgotten if that one failed: then both are cut anew from the same messages.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.definitions import Definitions
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.failpoints import FailPoint, fail_at
from analytics_pipeline.ingest import accounts
from analytics_pipeline.ingest.backoff import Backoff
from analytics_pipeline.ingest.consumer import Consumer, Fetched, PositionLost
from analytics_pipeline.ingest.freshness import Freshness
from analytics_pipeline.ingest.landing_thread import LandingThread
from analytics_pipeline.ingest.owned import Owned
from analytics_pipeline.ingest.ownership import Ownership
from analytics_pipeline.storage.landing import CommitUnknown, Landed, TimedOut
from analytics_pipeline.storage.offsets import Claim, Moved, Partition, Span

_log = structlog.get_logger(__name__)

_LONGEST_FETCH = 0.2
"""Seconds: how soon a stop is noticed."""
_HOUSEKEEPING = 0.25
_SHUTDOWN_FAILURES = 3


@dataclass(frozen=True)
class Pace:
    """How much at once: rows per transaction, seconds a row may wait, rows in memory; and bytes where rows are large.

    A batch has at least one message, and memory is full when it holds `capacity_bytes` or a fetch more.
    """

    batch_size: int
    batch_timeout: float
    capacity: int
    batch_bytes: int = 32 * 1024 * 1024
    capacity_bytes: int = 128 * 1024 * 1024


class Flight(NamedTuple):
    """A batch that is landing."""

    spans: Sequence[Span]
    landed: Future[Landed]


class Worker:
    """One landing connection and its member of the consumer group; used by one thread."""

    def __init__(
        self,
        *,
        make_consumer: Callable[[], Consumer],
        topics: Sequence[str],
        landings: LandingThread,
        ownership: Ownership,
        freshness: Freshness,
        definitions: Callable[[], Definitions],
        limits: Limits,
        pace: Pace,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_consumer = make_consumer
        self._topics = topics
        self._landings = landings
        self._ownership = ownership
        self._freshness = freshness
        self._definitions = definitions
        self._limits = limits
        self._pace = pace
        self._now = now
        self._clock = clock
        self._consumer: Consumer | None = None
        self._rows = pace.batch_size
        self._mean_size = 1
        """Bytes of a message, as those in memory were when there were any."""
        self._is_paused = False
        self._waiting_since: float | None = None
        self._fetched_at = clock()
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._flight: Flight | None = None
        self._unresolved: Sequence[Span] = []
        self._next_housekeeping = 0.0

    @property
    def partitions(self) -> list[Partition]:
        """What this worker owns."""
        return self._ownership.partitions

    def run(self, stop: threading.Event) -> None:
        """Land until `stop`, then land what is in memory and leave the group.

        Raises:
            InvariantBroken: the books do not balance.
        """
        try:
            while not stop.is_set():
                try:
                    self.step()
                except EnvironmentFault as error:  # most often PositionLost
                    wait = self._backoff.next()
                    _log.warning("starting over with a new consumer", reason=str(error), seconds=wait)
                    self._leave()
                    stop.wait(wait)
            try:
                self._land_rest()
            except EnvironmentFault as error:
                _log.warning("what is in memory is left to the next owner", reason=str(error))
        finally:
            try:
                self._leave()
            finally:
                self._landings.close()

    def step(self) -> None:
        """Fetch once, and land if it is time."""
        consumer = self._joined()
        self._ownership.claim_missing()
        is_waiting = self._clock() < self._retry_at
        room = self._room()
        if room <= 0:
            self._pause()
        elif self._is_paused and not is_waiting and not self._has_work():
            self._resume()  # what was waited for is gone, and no landing will do it
        most = max(1, min(room, self._rows, self._pace.batch_bytes // self._mean_size))
        fetched = consumer.fetch(most, self._patience(room))
        # Whatever came now came after the fetch before.
        came_after, self._fetched_at = self._fetched_at, self._clock()
        if self._ownership.failure is not None:
            raise self._ownership.failure
        if fetched.messages:
            fail_at(FailPoint.AFTER_CONSUME)
        self._take(fetched)
        self._ownership.stop_cut_off()
        if self._waiting_since is None and self._has_more():
            self._waiting_since = came_after
        if not is_waiting and self._is_due():
            is_behind = sum(map(len, fetched.messages.values())) >= most
            self._attempt(partial(self._land, reads_on=is_behind))
        elif self._flight is not None:
            self._attempt(self._arrive)
        if self._flight is None:
            self._keep_house()

    def _keep_house(self) -> None:
        """Four times a second, while nothing is landing: it would wait for the batch."""
        if self._clock() < self._next_housekeeping:
            return
        self._next_housekeeping = self._clock() + _HOUSEKEEPING
        self._ownership.recognise()
        self._freshness.note(is_reading=not self._is_paused and self._clock() >= self._retry_at)
        if self._clock() >= self._retry_at:
            self._freshness.write()

    def _land_rest(self) -> None:
        """Land what is in memory, as far as the database lets us; the rest is read again by the next owner."""
        # An outage that is on already does not say that it lasts: one attempt at least.
        patience = max(_SHUTDOWN_FAILURES, self._backoff.failures + 1)
        while self._backoff.failures < patience and self._has_work():
            self._attempt(self._land)

    def _joined(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._make_consumer()
            self._ownership.use(self._consumer)
            self._consumer.subscribe(self._topics, self._ownership.assigned, self._revoked)
        return self._consumer

    def _revoked(self, partitions: Sequence[Partition]) -> None:
        """Kafka's callback: a batch that is landing ends before somebody else may claim its partitions."""
        if self._flight is not None:
            wait([self._flight.landed])
        self._ownership.revoked(partitions)

    def _leave(self) -> None:
        """Leave the group, and forget everything: the database tells the next owner where to go on.

        Raises:
            InvariantBroken, or a fault of an unknown kind: that is what the batch which was landing ended with.
        """
        consumer, self._consumer = self._consumer, None
        flight, self._flight = self._flight, None
        try:
            if flight is not None:
                accounts.landed(flight.landed.result())
        except (EnvironmentFault, Moved) as error:
            accounts.failed(error)
        finally:
            if consumer is not None:
                consumer.close()
            self._ownership.revoked(self._ownership.partitions)
            self._freshness.leave()
            self._waiting_since, self._unresolved, self._is_paused = None, [], False

    def _pause(self) -> None:
        assert self._consumer is not None
        self._consumer.pause([owned.key for owned in self._ownership])
        self._is_paused = True

    def _resume(self) -> None:
        assert self._consumer is not None
        self._consumer.resume([owned.key for owned in self._ownership])
        self._is_paused = False

    def _has_work(self) -> bool:
        return any(owned.has_work for owned in self._ownership)

    def _has_more(self) -> bool:
        return any(owned.has_more for owned in self._ownership)

    def _buffered(self) -> int:
        return sum(owned.buffered for owned in self._ownership)

    def _room(self) -> int:
        """Messages that memory has room for, if they are as large as those before."""
        buffered_bytes = sum(owned.buffered_bytes for owned in self._ownership)
        return min(
            self._pace.capacity - self._buffered(),
            -((buffered_bytes - self._pace.capacity_bytes) // self._mean_size),
        )

    def _patience(self, room: int) -> float:
        """Seconds that the next fetch may take."""
        now = self._clock()
        if now < self._retry_at:
            return min(_LONGEST_FETCH, self._retry_at - now)
        since = self._fetched_at if self._waiting_since is None else self._waiting_since
        left = since + self._pace.batch_timeout - now
        return min(_LONGEST_FETCH, max(0.0, left)) if room > 0 else 0.0

    def _is_due(self) -> bool:
        if self._waiting_since is None:
            return False
        is_old = self._clock() >= self._waiting_since + self._pace.batch_timeout
        return (
            is_old
            or sum(owned.waiting for owned in self._ownership) >= min(self._rows, self._pace.capacity)
            or sum(owned.waiting_bytes for owned in self._ownership) >= self._pace.batch_bytes
        )

    def _take(self, fetched: Fetched) -> None:
        for key, messages in fetched.messages.items():
            if (owned := self._ownership.get(key)) is not None:
                owned.take(messages)
        if buffered := self._buffered():
            self._mean_size = max(1, sum(owned.buffered_bytes for owned in self._ownership) // buffered)
        for key, offset in fetched.ends.items():
            if (owned := self._ownership.get(key)) is not None:
                owned.reach_end(offset)
        for key in fetched.unreadable:
            if (owned := self._ownership.get(key)) is not None:
                owned.is_cut_off = True

    def _land(self, *, reads_on: bool = False) -> None:
        """One transaction with the oldest rows of all partitions, after the one before it has ended.

        Args:
            reads_on: leave it landing, because more can be read at once.
        """
        if self._unresolved and self._resolve():
            return
        spans, batches = self._cut()
        decoded = decode_batches(
            batches, now=self._now(), limits=self._limits, definitions=self._definitions()
        )
        if spans:
            fail_at(FailPoint.AFTER_DECODE)
        deltas = self._landings.deltas_ahead(decoded)
        self._arrive()
        self._keep_house()
        if not all(map(self._is_ours, spans)):
            return  # a partition has been stopped or lost
        if not spans:
            self._waiting_since = None
            return
        self._flight = Flight(spans, self._landings.launch(spans, decoded, deltas))
        for span in spans:
            self._owned(span).launched(span)
        if not reads_on:
            self._arrive()
        else:
            self._waiting_since = self._clock() if self._has_more() else None

    def _arrive(self) -> None:
        """Wait for the batch that is landing, if one is."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        spans = flight.spans
        try:
            landed = flight.landed.result()
        except BaseException as error:
            for owned in self._ownership:
                owned.recall()
            if isinstance(error, CommitUnknown):
                self._unresolved = spans
            raise
        finally:
            # An error holds this frame, and the flight holds the error: only the garbage collector would part them.
            del flight
        self._landed(spans, landed)

    def _attempt(self, do: Callable[[], None]) -> None:
        """Do what may fail, and what each failure asks for."""
        try:
            do()
        except Moved as moved:
            self._move(moved)
        except TimedOut as error:
            self._rows = max(1, self._rows // 2)
            self._wait(error)
        except PositionLost:
            raise
        except EnvironmentFault as error:
            self._wait(error)

    def _owned(self, span: Span) -> Owned:
        owned = self._ownership.get(span.key)
        assert owned is not None
        return owned

    def _is_ours(self, span: Span) -> bool:
        """Whether a span is the next of its partition."""
        owned = self._ownership.get(span.key)
        return owned is not None and owned.claim == Claim(span.first_offset, span.epoch)

    def _cut(self) -> tuple[list[Span], list[RawBatch]]:
        """Each partition has the same share of the batch; what a small one leaves goes to the larger ones."""
        spans, batches, left, bytes_left = [], [], self._rows, self._pace.batch_bytes
        waiting = sorted(self._ownership, key=lambda owned: owned.waiting)
        for number, owned in enumerate(waiting):
            sharing = len(waiting) - number
            share = -(-left // sharing) if bytes_left > 0 else 0
            found = owned.cut(share, bytes_left // sharing)
            if found is not None:
                spans.append(found.span)
                batches.append(found.batch)
                left -= found.span.read
                bytes_left -= found.size
        return spans, batches

    def _landed(self, spans: Sequence[Span], landed: Landed | None) -> None:
        """Forget what is safe in the database now; `landed` is None when only that much is known."""
        assert self._consumer is not None
        ours = [span for span in spans if self._is_ours(span)]
        for span in ours:
            self._owned(span).landed(span)
        fail_at(FailPoint.BEFORE_KAFKA_COMMIT)
        # Only now, only for lag tools, and nobody waits for it.
        self._consumer.commit({span.key: span.next_offset for span in ours})
        if landed is not None:
            accounts.landed(landed)
            keys = {span.key for span in ours}
            for line in landed.lines:
                # What was claimed anew meanwhile has recalled this batch from the ledger.
                if (key := (line.source, line.partition)) in keys:
                    self._ownership.count(key, line.read, line.dead)
        if self._backoff.failures:
            _log.info("landing goes on", failures=self._backoff.failures)
            self._backoff.reset()
        self._rows = min(self._pace.batch_size, self._rows * 2)
        if self._is_paused:
            self._resume()
        self._waiting_since = self._clock() if self._has_more() else None

    def _move(self, moved: Moved) -> None:
        """Not an error of the data: somebody else owns or landed it."""
        accounts.failed(moved)
        assert self._consumer is not None
        for key in moved.lost:
            self._ownership.lose(key)
        for key, next_offset in moved.elsewhere.items():
            if (owned := self._ownership.get(key)) is not None:
                _log.warning(
                    "the offset moved",
                    topic=key[0],
                    partition=key[1],
                    expected=owned.next_offset,
                    found=next_offset,
                )
                owned.rewind(next_offset)
                self._consumer.seek(key, next_offset)

    def _resolve(self) -> bool:
        """Find out about a COMMIT that got no answer; whether the batch landed."""
        spans = self._unresolved
        is_landed = self._landings.resolve(spans)
        ours = [span.key for span in spans if is_landed and span.read and self._is_ours(span)]
        # What became of its messages is in the ledger alone.
        lines = [(key, read, dead) for key in ours for read, dead in self._landings.history(key)[-1:]]
        self._unresolved = []
        accounts.resolved(spans, is_landed)
        if is_landed:
            self._landed(spans, None)
            for line in lines:
                self._ownership.count(*line)
        return is_landed

    def _wait(self, error: EnvironmentFault) -> None:
        accounts.failed(error)
        wait = self._backoff.next()
        self._retry_at = self._clock() + wait
        self._pause()
        _log.warning(
            "landing waits",
            reason=str(error),
            seconds=round(wait, 1),
            rows=self._buffered(),
            partitions=[f"{owned.key[0]}/{owned.key[1]}@{owned.next_offset}" for owned in self._ownership],
        )
