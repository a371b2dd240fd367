"""What a batch says about those who sent it: per topic and producer, counts, lateness and clock skew.

Belongs here: the sums of a batch. Does not belong here: who sent a message (`producers`), keeping the sums
(`storage.source_statistics`).

Lateness is the time from the event's timestamp to the message's own; below zero the event is ahead, which only a
clock that is wrong can do. Both are one histogram (`rollups.states`), thinned out to 4 % so that it stays small. As
there, what is 8e8 times smaller than the largest is moved up to that: next to 9 days, a millisecond. So more than 9
days counts as 9: else one event of another century would hide how late all others are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.events.messages import DeadLetter, Message, RawBatch
from analytics_pipeline.events.producers import NAMELESS, OTHER, given_name, readable
from analytics_pipeline.rollups.states import BIN_OFFSET, LN_GAMMA, quantile_pack

MOST_NAMES = 100
"""Producers of one partition told apart within a batch."""

_MILLISECOND = 1000
_MOST_LATENESS = 9 * 86_400_000_000
"""µs, either way."""
_THINNING = 7
_SPAN = 1 << 15

Int64 = npt.NDArray[np.int64]
Codes = npt.NDArray[np.intp]


class Arrivals(NamedTuple):
    """When the events of a batch reached their source, whatever became of them after; arrays of one length.

    owner: position in the batch's raw batches. offset: within the partition. lateness: µs, negative when ahead.
    """

    owner: Int64
    offset: Int64
    lateness: Int64


class Tally(Protocol):
    """What became of the messages of one partition: a line of the ledger."""

    @property
    def source(self) -> str:
        """The topic, or http."""

    @property
    def partition(self) -> int:
        """Its partition."""

    @property
    def read(self) -> int:
        """Messages: stored + duplicate + dead."""

    @property
    def stored(self) -> int:
        """Events stored."""

    @property
    def dead(self) -> int:
        """Dead letters."""


@dataclass(slots=True)
class Summary:
    """Sums of one producer of one source; `lateness` is a quantile state in ms."""

    source: str
    producer: str
    read: int = 0
    stored: int = 0
    dead: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    lateness: bytes = b""
    ahead_max_ms: float = 0.0

    @property
    def duplicate(self) -> int:
        """What is neither stored nor dead."""
        return self.read - self.stored - self.dead


def summarize(
    batches: Sequence[RawBatch],
    arrivals: Arrivals | None,
    stored: pa.Table,
    dead: Sequence[DeadLetter],
    tallies: Sequence[Tally],
) -> list[Summary]:
    """The sums of a batch, sorted by source and producer.

    Args:
        batches: its messages.
        arrivals: None when no message could be read as an event.
        stored: rows that were stored, with their source coordinates.
        dead: all dead letters.
        tallies: one per partition.
    """
    named = [_Named.of(batch.messages) for batch in batches]
    summaries: dict[tuple[str, str], Summary] = {}

    def summary(source: str, producer: str) -> Summary:
        key = (source, producer)
        if key not in summaries:
            summaries[key] = Summary(source, producer)
        return summaries[key]

    where = {(batch.source, batch.partition): number for number, batch in enumerate(batches)}
    for tally in tallies:
        number = where.get((tally.source, tally.partition))
        one = named[number] if number is not None else None
        if one is None:
            nameless = summary(tally.source, NAMELESS)
            nameless.read += tally.read
            nameless.stored += tally.stored
            nameless.dead += tally.dead
            continue
        read = np.bincount(one.codes, minlength=len(one.names))
        rows = _offsets_of(stored, tally.source, tally.partition)
        kept = np.bincount(one.at(rows), minlength=len(one.names))
        for code, name in enumerate(one.names):
            if read[code]:
                found = summary(tally.source, name)
                found.read += int(read[code])
                found.stored += int(kept[code])
    for letter in dead:
        number = where[letter.source, letter.partition]
        one = named[number]
        producer = NAMELESS
        if one is not None:
            producer = one.names[int(one.at(np.array([letter.offset]))[0])]
            summary(letter.source, producer).dead += 1
        summary(letter.source, producer).reasons[letter.reason.value] += 1
    if arrivals is not None and len(arrivals.lateness):
        groups = list(summaries.values())
        numbers = {key: number for number, key in enumerate(summaries)}
        _add_lateness(groups, _groups_of(batches, named, arrivals, numbers), arrivals.lateness)
    return [summaries[key] for key in sorted(summaries) if summaries[key].read]


class _Named(NamedTuple):
    """Producers of the messages of a partition: names, the code of each message, and where the messages are."""

    names: list[str]
    codes: Codes
    offsets: Int64

    @classmethod
    def of(cls, messages: Sequence[Message]) -> "_Named | None":
        """None when no message has a header: then looking is all it costs."""
        headers = [message.headers() for message in messages]
        if not any(headers):
            return None
        names = [NAMELESS]
        known: dict[bytes, int] = {}
        codes = np.zeros(len(messages), np.intp)
        for position, pairs in enumerate(headers):
            value = given_name(pairs) if pairs else None
            if value is None:
                continue
            code = known.get(value)
            if code is None:
                name = readable(value) if len(names) <= MOST_NAMES else OTHER
                if name not in names:
                    names.append(name)
                code = known[value] = names.index(name)
            codes[position] = code
        return cls(names, codes, np.array([message.offset() for message in messages], np.int64))

    def at(self, offsets: Int64) -> Codes:
        """Codes of messages by their offsets, which are all there."""
        return self.codes[np.searchsorted(self.offsets, offsets)]


def _offsets_of(stored: pa.Table, source: str, partition: int) -> Int64:
    is_here = pc.and_(pc.equal(stored["source"], source), pc.equal(stored["source_partition"], partition))
    return np.asarray(stored["source_offset"].filter(is_here).to_numpy(), np.int64)


def _groups_of(
    batches: Sequence[RawBatch],
    named: Sequence[_Named | None],
    arrivals: Arrivals,
    numbers: Mapping[tuple[str, str], int],
) -> Codes:
    """The summary that each arrival belongs to."""
    plain = np.array([numbers.get((batch.source, NAMELESS), 0) for batch in batches], np.intp)
    groups: Codes = plain[arrivals.owner]
    for number, one in enumerate(named):
        if one is None:
            continue
        own = np.array([numbers.get((batches[number].source, name), 0) for name in one.names], np.intp)
        rows = np.flatnonzero(arrivals.owner == number)
        groups[rows] = own[one.at(arrivals.offset[rows])]
    return groups


def _add_lateness(summaries: Sequence[Summary], groups: Codes, lateness: Int64) -> None:
    """Histogram of each group, in one sort for all of them."""
    cells = (groups << 16) + (_bins(lateness) + _SPAN)
    found, counts = np.unique(cells, return_counts=True)
    owners, keys = found >> 16, ((found & 0xFFFF) - _SPAN).astype(np.int16)
    for number, summary in enumerate(summaries):
        first, last = np.searchsorted(owners, [number, number + 1])
        if first < last:
            summary.lateness = quantile_pack(keys[first:last], counts[first:last].astype(np.int64))
    if lateness.min() < 0:
        ahead = np.zeros(len(summaries), np.int64)
        np.maximum.at(ahead, groups, -lateness)
        for summary, most in zip(summaries, ahead.tolist(), strict=True):
            summary.ahead_max_ms = most / _MILLISECOND


def _bins(lateness: Int64) -> Int64:
    """Signed keys of `rollups.states`, the middle one of each seven; 0 below a millisecond."""
    size = np.minimum(np.abs(lateness), _MOST_LATENESS)
    with np.errstate(divide="ignore"):
        coarse = np.ceil(np.log(size / _MILLISECOND) / (_THINNING * LN_GAMMA))
    keys = np.where(size < _MILLISECOND, 0, coarse * _THINNING - _THINNING // 2 + BIN_OFFSET)
    return (np.sign(lateness) * keys).astype(np.int64)
