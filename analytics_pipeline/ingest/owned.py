"""One partition that this process owns: what waits in memory, and where everything stands. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from analytics_pipeline.events.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.events.messages import Message, RawBatch, sizes
from analytics_pipeline.ingest.watermarks import Notes
from analytics_pipeline.storage.offsets import Claim, Partition, Span
from analytics_pipeline.storage.standings import Stop


class Cut(NamedTuple):
    """What a batch takes of one partition, and how many bytes that is."""

    span: Span
    batch: RawBatch
    size: int


class Owned:
    """Buffer and position of a partition under one claim.

    Attributes:
        next_offset: of the first message that has not landed.
        topic_id: Kafka's id of the topic when it was claimed, or None.
        is_cut_off: Kafka has nothing more at the position: trimmed or made anew; what is in memory can land.
        stopped: why nothing of it is read any more until a person has looked, or None.
        is_stop_noted: whether `ingest_offsets` says so, too, or says that it is not stopped.
    """

    def __init__(self, key: Partition, claim: Claim, limit: DeadLetterLimit) -> None:
        self.key = key
        self.epoch = claim.epoch
        self.next_offset = claim.next_offset
        self.notes = Notes()
        self.is_cut_off = False
        self.stopped: Stop | None = None
        self.is_stop_noted = False
        self.topic_id: str | None = None
        self._limit = limit
        self._buffer: list[Message] = []
        self._totals: list[int] = []
        """Bytes of the buffer up to the end of each message, on top of `_total_before`."""
        self._total_before = 0
        self._launched = 0
        """Of the buffer: messages that are landing just now."""
        self._launched_to = claim.next_offset
        self._position = claim.next_offset
        self._end = claim.next_offset

    @property
    def claim(self) -> Claim:
        """Where it stands in `ingest_offsets`."""
        return Claim(self.next_offset, self.epoch)

    @property
    def position(self) -> int:
        """The next offset to fetch."""
        return self._position

    @property
    def fetched_to(self) -> int:
        """Everything before this was fetched, or holds no message."""
        return max(self._position, self._end)

    @property
    def buffered(self) -> int:
        """Messages in memory."""
        return len(self._buffer)

    @property
    def waiting(self) -> int:
        """Messages in memory that are not landing yet."""
        return len(self._buffer) - self._launched

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the messages in memory."""
        return self._total(len(self._buffer)) - self._total_before

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the messages in memory that are not landing yet."""
        return self._total(len(self._buffer)) - self._total(self._launched)

    @property
    def has_work(self) -> bool:
        """Whether something is landing or can land: messages, or offsets that passed without any."""
        return bool(self._buffer) or self._end > self.next_offset

    @property
    def has_more(self) -> bool:
        """The same without what is landing."""
        return self.waiting > 0 or self._end > self._launched_to

    def take(self, fetched: Sequence[Message]) -> None:
        """Keep fetched messages, in order; those from before the position were landed or are in memory already.

        After a cut none is kept: it would be one of a topic that was made anew.
        """
        if self.is_cut_off:
            return
        messages = list(fetched)
        if messages and messages[0].offset() < self._position:
            messages = [message for message in messages if message.offset() >= self._position]
        if messages:
            totals = accumulate(sizes(messages), initial=self._total(len(self._buffer)))
            next(totals)
            self._totals += totals
            self._buffer += messages
            self._position = messages[-1].offset() + 1

    def reach_end(self, offset: int) -> None:
        """Everything before `offset` has been fetched."""
        if not self.is_cut_off:
            self._end = max(self._end, offset)

    def rewind(self, next_offset: int) -> None:
        """Forget what is in memory and go on at `next_offset`."""
        self.next_offset = self._position = self._end = self._launched_to = next_offset
        self._buffer, self._totals, self._launched = [], [], 0
        self.is_cut_off = False

    def cut(self, most: int, most_bytes: int) -> Cut | None:
        """The next batch behind the one that is landing; its messages stay here until `landed`.

        Args:
            most: messages.
            most_bytes: of these together; one message may have more.
        """
        first, before = self._launched, self._total(self._launched)
        fitting = max(bisect_right(self._totals, before + most_bytes, lo=first), first + 1)
        messages = self._buffer[first : min(first + most, fitting)]
        end = messages[-1].offset() + 1 if messages else self._launched_to
        if len(messages) == self.waiting:
            end = max(end, self._end)
        if end == self._launched_to:
            return None
        span = Span(
            *self.key, self._launched_to, end, len(messages), self.epoch, caught_up_at=self.notes.reached(end)
        )
        return Cut(span, RawBatch(*self.key, messages), self._total(first + len(messages)) - before)

    def launched(self, span: Span) -> None:
        """A span that `cut` returned is landing; one at a time."""
        self._launched, self._launched_to = span.read, span.next_offset

    def recall(self) -> None:
        """What was landing has not landed: it is cut again."""
        self._launched, self._launched_to = 0, self.next_offset

    def landed(self, span: Span) -> None:
        """A span that `cut` returned is in the database."""
        self._total_before = self._total(span.read)
        self._buffer, self._totals = self._buffer[span.read :], self._totals[span.read :]
        self.next_offset = span.next_offset
        self.recall()
        if span.caught_up_at is not None:
            self.notes.forget(span.caught_up_at)

    def count(self, read: int, dead: int) -> str | None:
        """Add to the dead-letter limit; return why the partition has to stop, or None."""
        return self._limit.add(read, dead)

    def _total(self, count: int) -> int:
        """Bytes up to the end of the first `count` messages of the buffer."""
        return self._totals[count - 1] if count else self._total_before
