"""Questions and answers of `/api/v1/ledger`: parameters and documented shapes."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from analytics_pipeline.storage.batches import Filter
from api.dead_letters.filters import END_TIME as WRITTEN_BEFORE
from api.dead_letters.filters import START_TIME as WRITTEN_SINCE
from api.parameters import Parameter, Query

_MOST_PARTITION = 2**31 - 1
_MOST_NUMBER = 10**12 - 1
_INTEGER = (("type", "integer"), ("minimum", 0))
_FLAG = (("type", "string"), ("enum", ["true", "false"]))

SOURCE = Parameter("source", "Only this topic, or `http`, `_replay` or `_import`.", "order.events")
PARTITION = Parameter("partition", "Only this partition.", 2, _INTEGER)
OFFSET = Parameter("offset", "Only the batch in which this offset lies.", 4711, _INTEGER)
BATCH = Parameter("batch_id", "Only this batch.", 1042, (("type", "integer"), ("minimum", 1)))
NOTES = Parameter("notes", "`true`: only offsets moved by a person.", "true", schema=_FLAG)
DEAD = Parameter("dead", "`true`: only lines with dead letters.", "true", schema=_FLAG)
DUPLICATES = Parameter("duplicates", "`true`: only lines with duplicates.", "true", schema=_FLAG)
SKIPPED = Parameter("skipped", "`true`: only lines with skipped offsets.", "true", schema=_FLAG)
TABLES = Parameter(
    "tables",
    "`true`: also compare with the rows of events and dead letters, which reads them.",
    "true",
    schema=_FLAG,
)
SINCE = Parameter(
    "start_time",
    "Only batches committed from then on. Default: no limit.",
    WRITTEN_SINCE.example,
    WRITTEN_SINCE.schema,
)
UNTIL = Parameter(
    "end_time",
    "Only batches committed before then. Default: no limit.",
    WRITTEN_BEFORE.example,
    WRITTEN_BEFORE.schema,
)
FILTERS = (SOURCE, PARTITION, OFFSET, BATCH, SINCE, UNTIL, NOTES, DEAD, DUPLICATES, SKIPPED)

TOTALS = ("lines", "read", "stored", "duplicate", "dead", "skipped")
NOTHING: dict[str, Any] = {
    "source": "",
    "partition": 0,
    "lines": 0,
    "first_offset": None,
    "next_offset": None,
    **dict.fromkeys(("read", "stored", "duplicate", "dead", "skipped"), 0),
    **dict.fromkeys(("decisions", "gaps", "unbalanced", "uncounted"), 0),
    "first_at": None,
    "last_at": None,
    "holds": True,
}
"""A partition without a line in the range."""


class LineAnswer(BaseModel):
    """A batch and one of its partitions: read = stored + duplicate + dead."""

    batch_id: int = Field(examples=[1042])
    source: str = Field(examples=["order.events"])
    partition: int = Field(examples=[2])
    first_offset: int | None = Field(description="Null for `http` and `_replay`.", examples=[4000])
    next_offset: int | None = Field(examples=[5000])
    read: int = Field(examples=[1000])
    stored: int = Field(examples=[997])
    duplicate: int = Field(examples=[2])
    dead: int = Field(examples=[1])
    skipped: int = Field(description="Offsets without a message, or left out by an operator.", examples=[0])
    seconds: float = Field(description="From its first decoded row to COMMIT.", examples=[0.061])
    committed_at: datetime
    note: str | None = Field(description="Who moved the partition, and why.", examples=[None])


class LinesAnswer(BaseModel):
    """Lines of the ledger, newest first."""

    lines: list[LineAnswer]
    count: int = Field(description="How many are in this answer.", examples=[1])
    next_cursor: str | None = Field(default=None, description="Leads to older ones; absent on the last page.")


class StandingAnswer(BaseModel):
    """Where a partition of Kafka stands, as the database knows it."""

    next_offset: int = Field(description="What has landed ends before it.", examples=[5000])
    epoch: int = Field(description="Owners so far.", examples=[3])
    caught_up_at: datetime | None = Field(description="Everything that Kafka held then has landed.")
    behind_seconds: float | None = Field(
        description="Since then; how many messages that is, Kafka knows: `analytics_ingest_lag`.",
        examples=[0.9],
    )
    is_retired: bool = Field(description="No longer read.")
    is_owner_connected: bool = Field(description="Whether the process that claimed it last is there.")
    updated_at: datetime


class ConservedAnswer(BaseModel):
    """The lines of one partition in the range."""

    source: str = Field(examples=["order.events"])
    partition: int = Field(examples=[2])
    lines: int = Field(examples=[12])
    first_offset: int | None = Field(description="The lowest offset taken.", examples=[4000])
    next_offset: int | None = Field(description="Behind the highest.", examples=[16000])
    read: int = Field(examples=[12000])
    stored: int = Field(examples=[11960])
    duplicate: int = Field(examples=[30])
    dead: int = Field(examples=[10])
    skipped: int = Field(examples=[0])
    decisions: int = Field(description="Times that an operator moved the partition.", examples=[0])
    gaps: int = Field(description="Lines that do not begin where the one before ended.", examples=[0])
    unbalanced: int = Field(description="Lines with read ≠ stored + duplicate + dead.", examples=[0])
    uncounted: int = Field(description="Lines whose offsets are not all read or skipped.", examples=[0])
    first_at: datetime | None
    last_at: datetime | None
    holds: bool = Field(
        description="Whether there is no gap, and every message is accounted for.", examples=[True]
    )
    standing: StandingAnswer | None = Field(description="Null for `http` and `_replay`.")


class GapAnswer(BaseModel):
    """A batch that does not begin where the one before it ended."""

    source: str = Field(examples=["order.events"])
    partition: int = Field(examples=[2])
    expected: int = Field(description="Where the batch before ended.", examples=[5000])
    first_offset: int = Field(
        description="Where it begins: behind it is a loss, before it a repeat.", examples=[5002]
    )
    after_batch: int = Field(examples=[1042])
    batch_id: int = Field(examples=[1047])


class TotalsAnswer(BaseModel):
    """Sums over all partitions."""

    lines: int = Field(examples=[12])
    read: int = Field(examples=[12000])
    stored: int = Field(examples=[11960])
    duplicate: int = Field(examples=[30])
    dead: int = Field(examples=[10])
    skipped: int = Field(examples=[0])


class ConservationAnswer(BaseModel):
    """What became of every message of the range."""

    start_time: datetime
    end_time: datetime
    holds: bool = Field(description="Whether it holds for every partition.", examples=[True])
    totals: TotalsAnswer
    partitions: list[ConservedAnswer] = Field(
        description="By source and partition; those of Kafka also where nothing was read in the range."
    )
    gaps: list[GapAnswer] = Field(description="The newest twenty.")


class PlaceAnswer(BaseModel):
    """Where a balance is broken."""

    problem: str = Field(examples=["batch 1042 ended at 5000, batch 1047 begins at 5002"])
    source: str
    partition: int | None
    first_offset: int | None
    next_offset: int | None
    batches: list[int]


class CheckAnswer(BaseModel):
    """A question about the ledger, and its answer."""

    name: str = Field(examples=["offsets_follow_one_another"])
    question: str = Field(examples=["each batch begins where the one before it ended"])
    numbers: dict[str, int] = Field(
        description="Both sides of the balance, or how much was looked at.",
        examples=[{"partitions": 4, "lines": 90}],
    )
    holds: bool = Field(examples=[True])
    broken: int = Field(description="Broken places.", examples=[0])
    places: list[PlaceAnswer] = Field(description="The first twenty of them.")


class ChecksAnswer(BaseModel):
    """All checks of one moment."""

    start_time: datetime
    holds: bool = Field(description="Whether all of them do.", examples=[True])
    checks: list[CheckAnswer]


def read_filter(query: Query, *, limit: int) -> Filter:
    """The lines that a query string asks for.

    Raises:
        BadRequest: a parameter is malformed.
    """
    offset = query.number(OFFSET, default=-1, low=0, high=_MOST_NUMBER)
    batch = query.number(BATCH, default=-1, low=1, high=_MOST_NUMBER)
    return Filter(
        source=query.text(SOURCE, limit=255),
        partition=read_partition(query),
        offset=None if offset < 0 else offset,
        batch=None if batch < 0 else batch,
        since=query.time(SINCE),
        until=query.time(UNTIL),
        is_noted=read_flag(query, NOTES),
        has_dead=read_flag(query, DEAD),
        has_duplicates=read_flag(query, DUPLICATES),
        has_skipped=read_flag(query, SKIPPED),
        limit=limit,
    )


def read_partition(query: Query) -> int | None:
    """The number of a partition, if one is asked for.

    Raises:
        BadRequest: it is no number, or too large for one.
    """
    found = query.number(PARTITION, default=-1, low=0, high=_MOST_PARTITION)
    return None if found < 0 else found


def read_flag(query: Query, parameter: Parameter) -> bool:
    """Whether a parameter is `true`.

    Raises:
        BadRequest: it is neither that nor `false`.
    """
    return query.choice(parameter, ("true", "false")) == "true"
