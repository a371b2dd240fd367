"""What became of every message: batches, conservation per topic and partition, and what each producer sends.

Belongs here: requests and answers of `/api/v1/ledger` and `/api/v1/sources`. Does not belong here: dead letters
themselves (`dead_letters`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from b25_client.request import Answer, Page, Request, read_record, write_parameters

PATH = "/api/v1/ledger"
SOURCES_PATH = "/api/v1/sources"


class LedgerQuery(TypedDict, total=False):
    """Keyword arguments that choose lines; the range is about when batches were committed.

    With `notes`, `dead`, `duplicates` or `skipped` only lines that have some. `limit` is the size of a page.
    """

    source: str
    partition: int
    offset: int
    batch_id: int
    start_time: datetime | str
    end_time: datetime | str
    notes: bool
    dead: bool
    duplicates: bool
    skipped: bool
    limit: int


class _Paged(LedgerQuery, total=False):
    cursor: str


class ConservationQuery(TypedDict, total=False):
    """Keyword arguments: the range of commits, default the last 24 hours, and which partition."""

    start_time: datetime | str
    end_time: datetime | str
    source: str
    partition: int


class SourcesQuery(TypedDict, total=False):
    """Keyword arguments: the range of landings, default the last 24 hours, which topic and which producer."""

    start_time: datetime | str
    end_time: datetime | str
    source: str
    producer: str


class _ChecksQuery(TypedDict, total=False):
    start_time: datetime | str
    tables: bool


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """A batch and one of its partitions: read = stored + duplicate + dead.

    Attributes:
        first_offset: None for `http` and `_replay`.
        skipped: offsets without a message, or left out by an operator.
        seconds: from its first decoded row to COMMIT.
        note: who moved the partition, and why.
    """

    batch_id: int
    source: str
    partition: int
    first_offset: int | None
    next_offset: int | None
    read: int
    stored: int
    duplicate: int
    dead: int
    skipped: int
    seconds: float
    committed_at: datetime
    note: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a partition of Kafka stands, as the database knows it.

    Attributes:
        next_offset: what has landed ends before it.
        epoch: owners so far.
        caught_up_at: everything that Kafka held then has landed.
        behind_seconds: since then.
        is_retired: no longer read.
        is_owner_connected: whether the process that claimed it last is there.
    """

    next_offset: int
    epoch: int
    caught_up_at: datetime | None
    behind_seconds: float | None
    is_retired: bool
    is_owner_connected: bool
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ConservedPartition:
    """The lines of one partition in a range.

    Attributes:
        decisions: times that an operator moved the partition.
        gaps: lines that do not begin where the one before ended.
        unbalanced: lines with read ≠ stored + duplicate + dead.
        uncounted: lines whose offsets are not all read or skipped.
        holds: whether there is none of these.
        standing: None for `http` and `_replay`.
    """

    source: str
    partition: int
    lines: int
    first_offset: int | None
    next_offset: int | None
    read: int
    stored: int
    duplicate: int
    dead: int
    skipped: int
    decisions: int
    gaps: int
    unbalanced: int
    uncounted: int
    first_at: datetime | None
    last_at: datetime | None
    holds: bool
    standing: Standing | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A batch that begins at `first_offset`, and not at `expected`, where the one before it ended."""

    source: str
    partition: int
    expected: int
    first_offset: int
    after_batch: int
    batch_id: int


@dataclass(frozen=True, slots=True)
class Conservation:
    """What became of every message of a range.

    Attributes:
        holds: whether it holds for every partition.
        totals: lines, read, stored, duplicate, dead, skipped over all of them.
        gaps: the newest twenty.
    """

    start_time: datetime
    end_time: datetime
    holds: bool
    totals: Mapping[str, int]
    partitions: tuple[ConservedPartition, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """A question about the ledger, and its answer.

    Attributes:
        numbers: both sides of the balance, or how much was looked at.
        broken: places where it does not hold.
        places: the first twenty of them, as the service says them.
    """

    name: str
    question: str
    numbers: Mapping[str, int]
    holds: bool
    broken: int
    places: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class SourceStatistics:
    """What one producer of one topic sent; None where nothing is known.

    Attributes:
        producer: as it names itself; None without a name.
        rate: messages a second, over the range.
        lateness_p50_ms: event time to the message's own time, median.
        ahead_p99_ms: how far events are ahead of their message's time: the skew of the producer's clock.
        reasons: dead letters by reason.
    """

    source: str
    producer: str | None
    first_at: datetime
    last_at: datetime
    read: int
    stored: int
    duplicate: int
    dead: int
    rate: float
    lateness_p50_ms: float | None
    lateness_p99_ms: float | None
    ahead_p99_ms: float | None
    ahead_max_ms: float
    reasons: Mapping[str, int]


def lines_request(asked: Mapping[str, Any], cursor: str | None) -> Request[Page[LedgerLine]]:
    """Ask for a page of lines, newest first.

    Raises:
        TypeError, ValueError: an argument is not known, or cannot be written.
    """
    write_parameters(asked, LedgerQuery)
    return Request(PATH, _read_lines, write_parameters({**asked, "cursor": cursor}, _Paged))


def conservation_request(asked: Mapping[str, Any]) -> Request[Conservation]:
    """Ask what became of every message of a range."""
    return Request(PATH + "/conservation", _read_conservation, write_parameters(asked, ConservationQuery))


def checks_request(start_time: datetime | str | None, tables: bool) -> Request[tuple[LedgerCheck, ...]]:
    """Ask for the proof that nothing was lost or doubled."""
    parameters = write_parameters({"start_time": start_time, "tables": tables}, _ChecksQuery)
    return Request(PATH + "/checks", _read_checks, parameters)


def sources_request(asked: Mapping[str, Any]) -> Request[tuple[SourceStatistics, ...]]:
    """Ask what each producer sends."""
    return Request(SOURCES_PATH, _read_sources, write_parameters(asked, SourcesQuery))


def _read_lines(answer: Answer) -> Page[LedgerLine]:
    content = answer.json()
    return Page(tuple(read_record(LedgerLine, one) for one in content["lines"]), content.get("next_cursor"))


def _read_conservation(answer: Answer) -> Conservation:
    content = answer.json()
    return read_record(
        Conservation,
        content,
        partitions=tuple(
            read_record(ConservedPartition, one, standing=_standing(one["standing"]))
            for one in content["partitions"]
        ),
        gaps=tuple(read_record(Gap, one) for one in content["gaps"]),
    )


def _standing(content: Mapping[str, Any] | None) -> Standing | None:
    return None if content is None else read_record(Standing, content)


def _read_checks(answer: Answer) -> tuple[LedgerCheck, ...]:
    return tuple(read_record(LedgerCheck, one) for one in answer.json()["checks"])


def _read_sources(answer: Answer) -> tuple[SourceStatistics, ...]:
    return tuple(read_record(SourceStatistics, one) for one in answer.json()["sources"])
