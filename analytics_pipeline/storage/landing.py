"""The landing transaction: events, dead letters, deltas, ledger and offsets, all or nothing.

Belongs here: the one transaction by which anything enters `events`, and what its failures mean.
Does not belong here: reading Kafka, waiting, retrying with back-off (`ingest`), decoding (`events`).

Errors of `Lander`:
    Moved           somebody else owns a partition, or its offset is another: drop the buffer, seek
    TimedOut        a statement took too long: try half of the batch
    CommitUnknown   COMMIT got no answer: ask `resolve`
    MissingPartition, EnvironmentFault   wait and try again
    InvariantBroken the books do not balance: stop
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

import psycopg
import pyarrow as pa

from analytics_pipeline.errors import AnalyticsError, EnvironmentFault, InvariantBroken, MissingPartition
from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.messages import DeadLetter, Message
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.events.schema import EVENTS_SCHEMA, check_events
from analytics_pipeline.failpoints import FailPoint, fail_at
from analytics_pipeline.rollups.cardinality import others_in
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.storage import (
    dead_letters,
    inbox,
    ledger,
    metric_versions,
    offsets,
    source_statistics,
    standings,
)
from analytics_pipeline.storage.backends import Backend, backend_of, end_and_wait
from analytics_pipeline.storage.connection import Connection, Lock, connect, is_retryable
from analytics_pipeline.storage.copying import Cursor
from analytics_pipeline.storage.event_rows import EventRows, is_row_fault
from analytics_pipeline.storage.offsets import Claim, Moved, Partition, Span
from analytics_pipeline.storage.refusals import dead_event, split_at_floor
from analytics_pipeline.storage.series import Admission
from analytics_pipeline.storage.standings import Stop
from analytics_pipeline.telemetry import LANDING_RETRIES

Result = TypeVar("Result")

_LOCK_FLOOR = "SELECT pg_advisory_xact_lock_shared(%s, 0)"
# A statement of its own: its snapshot must be younger than the lock.
_START = "SELECT raw_floor, nextval('ingest_batch_id_seq') FROM retention_state"
_TIMEOUT = "4s"
_ATTEMPTS = 5
_QUERY_CANCELED = "57014"
_STOOD_STILL = "25P03"
_CHECK_VIOLATION = "23514"


class Overtaken(EnvironmentFault):
    """What was looked at has been landed by somebody else; nothing was done."""


class TimedOut(EnvironmentFault):
    """A statement took longer than its timeout: half of the batch may pass."""


class CommitUnknown(EnvironmentFault):
    """The connection broke while COMMIT was on its way: ask `Lander.resolve` before anything else."""


@dataclass
class Landed:
    """What one committed transaction did."""

    batch_id: int
    lines: list[ledger.Line]
    dead: list[DeadLetter]
    unknown_fields: int = 0
    used_fallback: bool = False
    seconds: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds by step of the transaction."""
    others: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Events counted under `__other__`, by metric and dimension set."""


class Taken(Protocol):
    """Messages that keep books of their own: dead letters landed again, or the original's history.

    See `storage.replays` and `storage.imports`.
    """

    decoded: Decoded

    def settle(
        self, cursor: Cursor, batch_id: int, stored: pa.Table, dead: Sequence[DeadLetter]
    ) -> list[ledger.Line]:
        """Write down what became of each, dead letters included; the ledger's lines."""


class _Laps:
    """How long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def done(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step], self._last = now - self._last, now


class Deltas(NamedTuple):
    """Partial states, and the catalog that they are complete for."""

    rows: pa.Table
    catalog: Catalog


@dataclass
class _Work:
    """The state of one attempt; `spans` is empty for the inbox and for what keeps books of its own."""

    spans: Sequence[Span]
    decoded: Decoded
    deltas: Deltas | None
    taken: Taken | None = None


class Lander:
    """One landing connection; not for use by several threads.

    Connects when needed, and again after a failure. Name and timeouts are those that `backends` knows. The catalog
    is asked for at each batch. The landers of a process share one `admission`.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        name: str,
        catalog: Callable[[], Catalog] = lambda: BUILT_IN,
        admission: Admission | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._name = name
        self._catalog = catalog
        self._admission = admission or Admission(conninfo)
        self._connection: Connection | None = None
        self._backend: Backend | None = None
        self._uncertain: Backend | None = None
        """The server process that had a COMMIT which got no answer."""
        self._rows = EventRows()
        # The first check loads its library, which takes a second: not while a transaction is open.
        check_events(EVENTS_SCHEMA.empty_table())

    @property
    def connection(self) -> Connection:
        """The connection, opened anew if it was lost.

        Raises:
            EnvironmentFault: Postgres cannot be reached.
        """
        if self._connection is None or self._connection.closed:
            opened = connect(
                self._conninfo,
                name=self._name,
                statement_timeout=_TIMEOUT,
                idle_in_transaction_session_timeout=_TIMEOUT,
            )
            try:
                self._backend = backend_of(opened)
                self._rows.prepare(opened)
            except psycopg.Error as error:
                opened.close()
                raise EnvironmentFault(f"Postgres refused a landing connection ({error.sqlstate})") from error
            self._connection = opened
        return self._connection

    def close(self) -> None:
        """Close the connection; an open transaction rolls back."""
        self._admission.close()
        if self._connection is not None:
            self._connection.close()

    def claim(
        self, partition: Partition, first_offset: int, of_new_source: Mapping[int, int] | None = None
    ) -> Claim:
        """Become the owner of a partition; see `offsets.claim`.

        Raises:
            EnvironmentFault: Postgres.
        """
        return self._simply(
            lambda opened: offsets.claim(opened, self._conninfo, partition, first_offset, of_new_source)
        )

    def claims(self, partitions: Iterable[Partition]) -> Mapping[Partition, Claim]:
        """The present offsets and epochs of some partitions, whoever owns them.

        Raises:
            EnvironmentFault: Postgres.
        """
        return self._simply(lambda opened: offsets.read(opened, partitions))

    def history(self, partition: Partition) -> Sequence[tuple[int, int]]:
        """(read, dead) of the last batches of a partition; see `dead_letters.history`.

        Raises:
            EnvironmentFault: Postgres.
        """
        return self._simply(lambda opened: dead_letters.history(opened, partition))

    def identify(self, partition: Partition, claimed: Claim, topic_id: str) -> str | None:
        """Note which topic the offsets of a partition count in; see `standings.identify`.

        Raises:
            EnvironmentFault: Postgres.
        """
        return self._simply(lambda opened: standings.identify(opened, partition, claimed, topic_id))

    def note_caught_up(self, notes: Mapping[Partition, tuple[Claim, datetime]]) -> None:
        """Write down how fresh idle partitions are; see `standings.note_caught_up`.

        Raises:
            EnvironmentFault: Postgres.
        """
        self._simply(lambda opened: standings.note_caught_up(opened, notes))

    def note_stops(self, notes: Mapping[Partition, tuple[Claim, Stop | None]]) -> None:
        """Write down which partitions are stopped; see `standings.note_stops`.

        Raises:
            EnvironmentFault: Postgres.
        """
        self._simply(lambda opened: standings.note_stops(opened, notes))

    def note_silence(self, since: datetime | None) -> None:
        """Write down since when Kafka does not answer this process; see `standings.note_silence`.

        Raises:
            EnvironmentFault: Postgres.
        """
        self._simply(lambda opened: standings.note_silence(opened, since))

    def _simply(self, do: Callable[[Connection], Result]) -> Result:
        connection = self.connection
        try:
            result = do(connection)
            connection.rollback()  # nothing that only read stays open
        except psycopg.Error as error:
            self._roll_back(connection, [])
            raise EnvironmentFault(
                f"Postgres did not answer a landing connection ({error.sqlstate})"
            ) from error
        return result

    def deltas_ahead(self, decoded: Decoded) -> Deltas | None:
        """The deltas of all events of a batch, or None while duplicates are expected: then others will be needed.

        Touches no connection: any thread may call it while a batch lands.
        """
        return None if self._rows.expects_duplicates else self._compute(decoded.events)

    def _compute(self, events: pa.Table) -> Deltas:
        catalog = self._catalog()
        return Deltas(compute_deltas(events, catalog), catalog)

    def _within_budget(self, deltas: Deltas) -> Deltas:
        """Those that may be written: what is new in them has been admitted, by a transaction of its own."""
        return deltas._replace(rows=self._admission.within_budget(deltas.rows, deltas.catalog.by_id))

    def land(self, spans: Sequence[Span], decoded: Decoded, deltas: Deltas | None = None) -> Landed:
        """Land a batch of messages from Kafka.

        Args:
            spans: one per partition; each message of `decoded` lies in one of them.
            decoded: the messages, decoded.
            deltas: those of all its events, if known; computed again if fewer are stored.

        Raises:
            See the module.
        """
        # Before the transaction where that is possible: nobody who is slow to admit holds it up.
        ready = None if deltas is None else self._within_budget(deltas)
        landed = self._transact(lambda _cursor: _Work(spans, decoded, ready), spans)
        assert landed is not None
        return landed

    def land_inbox(
        self, limit: int, decode: Callable[[Sequence[Message]], Decoded], *, is_slow: bool = False
    ) -> Landed | None:
        """Land about `limit` posted events, whole rows of the inbox; None when nothing waits.

        Args:
            limit: events; the row that reaches it is the last.
            decode: for the messages of the inbox, source `http`, partition 0.
            is_slow: decode before the transaction, which may stand still for 4 s only.

        Raises:
            See the module.
        """

        def take(cursor: Cursor) -> _Work | None:
            messages = inbox.take(cursor, limit)
            return _Work([], decode(messages), None) if messages else None

        if not is_slow:
            return self._transact(take, [])
        rows, messages = self._simply(lambda opened: inbox.look(opened.cursor(), limit))
        if not rows:
            return None
        decoded = decode(messages)

        def take_seen(cursor: Cursor) -> _Work:
            if not inbox.take_seen(cursor, rows):
                raise Overtaken("another process landed what was looked at in the inbox")
            return _Work([], decoded, None)

        return self._transact(take_seen, [])

    def land_replay(self, take: Callable[[Cursor], Taken | None]) -> Landed | None:
        """Land the dead letters that `take` locks; None when it takes none.

        Raises:
            See the module; after `CommitUnknown`, `resolve([])` ends what still holds the letters.
        """
        return self._land_taken(take)

    def land_import(self, take: Callable[[Cursor], Taken | None]) -> Landed | None:
        """Land rows of the original's history, which `take` judges; None when it leaves them.

        Raises:
            See the module; after `CommitUnknown`, `resolve([])` ends what may still commit.
        """
        return self._land_taken(take)

    def _land_taken(self, take: Callable[[Cursor], Taken | None]) -> Landed | None:
        def begin(cursor: Cursor) -> _Work | None:
            found = take(cursor)
            return _Work([], found.decoded, None, found) if found is not None else None

        return self._transact(begin, [])

    def resolve(self, spans: Sequence[Span]) -> bool:
        """After `CommitUnknown`: whether the batch landed.

        Reconnects, ends the server process that had the COMMIT and waits until it is gone; then the offsets
        tell. A partition that has moved to another owner counts as landed: its buffer is worthless either way.

        Raises:
            EnvironmentFault: Postgres cannot be reached; ask again.
        """
        connection = self.connection
        try:
            if self._uncertain is not None:
                end_and_wait(connection, self._uncertain)
                self._uncertain = None
            rows = offsets.read(connection, [span.key for span in spans])
            connection.commit()
        except psycopg.Error as error:
            connection.close()
            raise EnvironmentFault(f"Postgres did not tell what was committed ({error.sqlstate})") from error
        return all(span.key in rows and rows[span.key].next_offset >= span.next_offset for span in spans)

    def _transact(self, begin: Callable[[Cursor], _Work | None], spans: Sequence[Span]) -> Landed | None:
        attempt = 1
        while True:
            connection, started = self.connection, time.perf_counter()
            try:
                landed = self._steps(connection, begin, started)
            except psycopg.Error as error:
                self._roll_back(connection, spans)
                if is_retryable(error) and attempt < _ATTEMPTS:
                    attempt += 1
                    LANDING_RETRIES.inc()
                    continue
                raise _meaning(error) from error
            except BaseException:
                self._roll_back(connection, spans)
                raise
            fail_at(FailPoint.BEFORE_COMMIT)
            committing = time.perf_counter()
            try:
                # 6  COMMIT: from here on everything above is true, or nothing is.
                connection.commit()
            except psycopg.Error as error:
                if connection.broken or connection.closed:
                    self._uncertain, self._connection = self._backend, None
                    connection.close()
                    raise CommitUnknown("COMMIT got no answer") from error
                self._roll_back(connection, spans)
                raise _meaning(error) from error
            fail_at(FailPoint.AFTER_COMMIT)
            if landed is not None:
                now = time.perf_counter()
                landed.steps["commit"], landed.seconds = now - committing, now - started
            return landed

    def _roll_back(self, connection: Connection, spans: Sequence[Span]) -> None:
        """Undo, and read the offsets again before anybody judges the error.

        Raises:
            Moved: the batch is not ours any more, whatever the error was.
        """
        try:
            connection.rollback()
            if spans:
                offsets.verify(connection, spans)
                connection.rollback()
        except psycopg.Error:
            connection.close()
        except Moved:
            connection.rollback()
            raise

    def _steps(
        self, connection: Connection, begin: Callable[[Cursor], _Work | None], started: float
    ) -> Landed | None:
        with connection.cursor() as cursor:
            laps = _Laps()
            # 0  Retention cannot raise the floor while we hold it shared: no row lands in a day that is going away.
            cursor.execute(_LOCK_FLOOR, (Lock.FLOOR,))
            work = begin(cursor)
            if work is None:
                return None
            start = cursor.execute(_START).fetchone()
            if start is None:
                raise InvariantBroken("retention_state has no row")
            floor, batch_id = start
            events, dead = split_at_floor(work.decoded, floor)
            laps.done("begin")

            fail_at(FailPoint.BEFORE_COPY)
            # 1  Events: each key once, whoever landed it; what Postgres refuses becomes a dead letter.
            used_fallback = self._rows.expects_duplicates
            stored = self._rows.store(cursor, events, lambda: offsets.verify(cursor, work.spans))
            for row, state in stored.refused:
                rejected = Rejected(Reason.REFUSED_BY_DATABASE, f"SQLSTATE {state}")
                dead.append(dead_event(work.decoded, row, rejected))
            laps.done("events")

            fail_at(FailPoint.AFTER_COPY)
            # 2  Dead letters: with the bytes as they came; what keeps books of its own writes its own.
            if work.taken is None:
                ledger.write_dead_letters(cursor, batch_id, dead)
            laps.done("dead_letters")

            fail_at(FailPoint.AFTER_DEAD_LETTERS)
            # 3  Deltas: of exactly the rows stored above, so that metrics are as exact as events.
            deltas = work.deltas
            is_as_expected = stored.rows.num_rows == work.decoded.events.num_rows
            if deltas is None or not is_as_expected or deltas.catalog.version != self._catalog().version:
                deltas = self._within_budget(self._compute(stored.rows))
            hours = ledger.write_deltas(cursor, batch_id, deltas.rows)
            laps.done("deltas")

            fail_at(FailPoint.AFTER_DELTAS)
            # 4  Ledger: every message read is stored, duplicate or dead.
            lines = (
                ledger.balance(work.spans, work.decoded, stored.rows, dead)
                if work.taken is None
                else work.taken.settle(cursor, batch_id, stored.rows, dead)
            )
            if not work.spans and work.taken is None:
                inbox.note_duplicates(cursor, work.decoded, stored.rows, dead)
            ledger.write_lines(
                cursor,
                batch_id,
                lines,
                catalog_version=deltas.catalog.version,
                hours=hours,
                seconds=time.perf_counter() - started,
            )
            if work.taken is None:
                source_statistics.append(cursor, batch_id, work.decoded, stored.rows, dead, lines)

            laps.done("ledger")

            # Metrics that others compute and this catalog does not have: their hours are left to a recompute.
            metric_versions.note_gaps(cursor, batch_id, stored.rows, deltas.catalog)
            laps.done("gaps")

            # 5  Offsets: only from where this batch began, and only while we own the partitions.
            if not offsets.advance(cursor, work.spans):
                raise Moved({span.key for span in work.spans}, {})
            laps.done("offsets")
            fail_at(FailPoint.AFTER_CAS)
        return Landed(
            batch_id,
            lines,
            dead,
            unknown_fields=work.decoded.unknown_fields,
            used_fallback=used_fallback or self._rows.expects_duplicates,
            steps=laps.seconds,
            others=others_in(deltas.rows, deltas.catalog.by_id),
        )


def _meaning(error: psycopg.Error) -> AnalyticsError:
    """What a failed transaction means to the caller; row faults of events were dealt with before."""
    state = error.sqlstate or "connection lost"
    if error.sqlstate == _QUERY_CANCELED:
        return TimedOut("a statement of the landing transaction took longer than 4 s")
    if error.sqlstate == _STOOD_STILL:
        return TimedOut("the landing transaction stood still for longer than 4 s between two statements")
    if error.sqlstate == _CHECK_VIOLATION and error.diag.constraint_name is None:
        return MissingPartition("an event has no partition to land in: run `analytics migrate`")
    if is_row_fault(error):
        return InvariantBroken(f"Postgres refused what landing writes beside the events ({state})")
    return EnvironmentFault(f"Postgres could not land a batch ({state})")
