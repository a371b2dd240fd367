"""The database of the landing loop in memory: the promises of `Lander`, and faults on demand."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.storage import ledger
from analytics_pipeline.storage.landing import CommitUnknown, Deltas, Landed
from analytics_pipeline.storage.offsets import Claim, Moved, Partition, Span
from analytics_pipeline.storage.standings import Stop


class MemoryDatabase:
    """What has landed, for any number of `MemoryLandings`."""

    def __init__(self) -> None:
        self.rows: dict[Partition, Claim] = {}
        self.stored: list[tuple[str, int, int]] = []
        self.dead: list[tuple[str, int, int]] = []
        self.ledger: list[Span] = []
        self.lines: list[ledger.Line] = []
        self.decided: dict[Partition, int] = {}
        """How many lines a partition had when an operator last decided about it."""
        self.caught_up: dict[Partition, datetime] = {}
        self.batch_sizes: list[int] = []
        self.topic_ids: dict[Partition, str] = {}
        self.stops: dict[Partition, Stop | None] = {}
        self.silences: list[datetime | None] = []
        """Every note of how long Kafka has been silent."""
        self.is_closed = False


class MemoryLandings:
    """See `landings.Landings`; `faults` are raised, one for each call of `land`, before anything happens."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database
        self.faults: list[Exception] = []
        self.claim_faults: list[Exception] = []
        self.note_faults: list[Exception] = []
        self.loses_answer_after: bool | None = None
        """Lose the answer to the next COMMIT: True after it was done, False before."""

    def claim(
        self, partition: Partition, first_offset: int, of_new_source: Mapping[int, int] | None = None
    ) -> Claim:
        if self.claim_faults:
            raise self.claim_faults.pop(0)
        rows = self.database.rows
        if of_new_source and not any(source == partition[0] for source, _ in rows):
            rows |= {(partition[0], number): Claim(first, 0) for number, first in of_new_source.items()}
        old = rows.get(partition) or Claim(first_offset, 0)
        rows[partition] = Claim(old.next_offset, old.epoch + 1)
        return rows[partition]

    def claims(self, partitions: Iterable[Partition]) -> Mapping[Partition, Claim]:
        return {key: self.database.rows[key] for key in partitions if key in self.database.rows}

    def history(self, partition: Partition) -> Sequence[tuple[int, int]]:
        lines = [line for line in self.database.lines if (line.source, line.partition) == partition]
        return [(line.read, line.dead) for line in lines[self.database.decided.get(partition, 0) :]]

    def identify(self, partition: Partition, claimed: Claim, topic_id: str) -> str | None:
        return self.database.topic_ids.setdefault(partition, topic_id)

    def deltas_ahead(self, decoded: Decoded) -> Deltas | None:
        return None

    def land(self, spans: Sequence[Span], decoded: Decoded, deltas: Deltas | None = None) -> Landed:
        if self.faults:
            raise self.faults.pop(0)
        if self.loses_answer_after is False:
            self.loses_answer_after = None
            raise CommitUnknown("lost")
        rows = self.database.rows
        lost = {span.key for span in spans if rows[span.key].epoch != span.epoch}
        elsewhere = {
            span.key: rows[span.key].next_offset
            for span in spans
            if span.key not in lost and rows[span.key].next_offset != span.first_offset
        }
        if lost or elsewhere:
            raise Moved(lost, elsewhere)
        lines = ledger.balance(spans, decoded, decoded.events, decoded.dead)
        for span in spans:
            rows[span.key] = Claim(span.next_offset, span.epoch)
            if span.caught_up_at is not None:
                self.database.caught_up[span.key] = span.caught_up_at
        self.database.ledger += spans
        self.database.lines += lines
        self.database.batch_sizes.append(sum(span.read for span in spans))
        columns = ("source", "source_partition", "source_offset")
        self.database.stored += zip(*(decoded.events[name].to_pylist() for name in columns), strict=True)
        self.database.dead += [(d.source, d.partition, d.offset) for d in decoded.dead]
        if self.loses_answer_after:
            self.loses_answer_after = None
            raise CommitUnknown("lost")
        return Landed(len(self.database.ledger), lines, decoded.dead)

    def resolve(self, spans: Sequence[Span]) -> bool:
        return all(self.database.rows[span.key].next_offset >= span.next_offset for span in spans)

    def note_caught_up(self, notes: Mapping[Partition, tuple[Claim, datetime]]) -> None:
        for key, (claim, at) in notes.items():
            if self.database.rows[key] == claim:
                self.database.caught_up[key] = at

    def note_stops(self, notes: Mapping[Partition, tuple[Claim, Stop | None]]) -> None:
        if self.note_faults:
            raise self.note_faults.pop(0)
        for key, (claim, stop) in notes.items():
            if self.database.rows[key].epoch == claim.epoch:
                self.database.stops[key] = stop

    def note_silence(self, since: datetime | None) -> None:
        self.database.silences.append(since)

    def close(self) -> None:
        self.database.is_closed = True

    def decide(self, partition: Partition) -> None:
        """An operator lets a partition go on where it stands."""
        lines = [line for line in self.database.lines if (line.source, line.partition) == partition]
        self.database.decided[partition] = len(lines)
        self.claim(partition, 0)


def outage(times: int) -> list[Exception]:
    return [EnvironmentFault("Postgres is away") for _ in range(times)]
