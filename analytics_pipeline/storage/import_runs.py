"""An import as people ask for it: day by day, taken up where it was, compared with the original when a day is done.

Belongs here: the order of days and batches, what failures mean, letting live work go first.
Does not belong here: one batch (`storage.imports`), progress (`storage.import_progress`), what to move (`import_plan`).
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import chain

from analytics_pipeline.errors import EnvironmentFault, InvariantBroken
from analytics_pipeline.events.definitions import NO_DEFINITIONS, Definitions
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.rollups.automatic import with_automatic
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage import import_progress, imports
from analytics_pipeline.storage.backfill import MOST_LAG, PATIENCE
from analytics_pipeline.storage.books import waiting
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.definitions import load_definitions
from analytics_pipeline.storage.import_definitions import take_over, with_new
from analytics_pipeline.storage.import_plan import Plan
from analytics_pipeline.storage.import_progress import Overtaken, Progress
from analytics_pipeline.storage.imports import Rules
from analytics_pipeline.storage.landing import CommitUnknown, Lander, TimedOut
from analytics_pipeline.storage.original import Day, Original, Row
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.rollups import merge_hour, pending_hours

BATCH_SIZE = 5_000
_MOST_CHARACTERS = 16 * 2**20
_PASSES = 3
"""Over a day in one run; the second reads it whole in one snapshot."""
_LOOK = 1.0

_TRY_ALONE = "SELECT pg_try_advisory_lock(%s, 0)"
_LEAVE = "SELECT pg_advisory_unlock(%s, 0)"


class Busy(EnvironmentFault):
    """Another import is at work."""


@dataclass
class DayDone:
    """What became of a day of theirs.

    Attributes:
        day: in UTC.
        read: their events, each of which is one of `stored`, `duplicate` and `dead`.
        stored: stored by the import.
        duplicate: stored already, or dealt with by an earlier pass.
        dead: dead letters.
        reasons: the day's dead letters, by reason; of earlier passes, too.
        younger: their events that are left, because they reached them after the horizon.
        is_unchanged: it was done before, and theirs is as it was.
    """

    day: date
    read: int = 0
    stored: int = 0
    duplicate: int = 0
    dead: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    younger: int = 0
    is_unchanged: bool = False


@dataclass(frozen=True)
class LiveFirst:
    """Lets live landing go first: waits while it is behind, `PATIENCE` at most, and else takes half of the time."""

    connection: Connection
    say: Callable[[str | None], None] = lambda _reason: None
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __call__(self, seconds: float) -> None:
        """After a batch that took so many seconds."""
        found = waiting(self.connection)
        if found.landing_connections <= 1:
            return  # ours alone
        self.pause(seconds)
        limit = self.clock() + PATIENCE
        while self.clock() < limit:
            lag = max([found.inbox_age, *found.behind.values()])
            if lag <= MOST_LAG:
                break
            self.say(f"landing is {lag:.0f} s behind")
            self.pause(_LOOK)
            found = waiting(self.connection)
        self.say(None)


class Importer:
    """Moves days; one at a time over all processes.

    Args:
        connection: an autocommit connection to our database.
        original: theirs.
        settings: limits, and where our database is.
        live_first: called after each batch with its seconds; may wait.
        moved: told how many events each batch had, once it is committed.
        batch_size: most rows of one transaction.
    """

    def __init__(
        self,
        connection: Connection,
        original: Original,
        settings: Settings,
        *,
        live_first: Callable[[float], None],
        moved: Callable[[int], None] = lambda _rows: None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self._connection, self._original, self._settings = connection, original, settings
        self._live_first, self._moved, self._batch_size = live_first, moved, batch_size
        self._run_id = f"import-{secrets.token_hex(4)}"
        self._definitions, self._catalog = NO_DEFINITIONS, BUILT_IN
        self._rules = Rules(self._reloaded, Limits.of(settings))

    def run(self, plan: Plan) -> Iterator[DayDone]:
        """Take over the definitions of a plan, and move its days, the oldest first.

        Yields:
            Each day once it is done and both sides agree.

        Raises:
            Busy: another import is at work.
            InvariantBroken: what is stored is not what was read.
            See `storage.landing`; what was moved stays, and the same call goes on.
        """
        with self._alone(), self._lander() as lander:
            take_over(self._connection, plan.definitions)
            for day in plan.days:
                yield self._day(lander, day, plan.horizon)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        row = self._connection.execute(_TRY_ALONE, (Lock.IMPORT,)).fetchone()
        if not (row and row[0]):
            raise Busy(
                "another import is at work on this database: wait until it has ended, then run this again"
            )
        try:
            yield
        finally:
            if not self._connection.closed:
                self._connection.execute(_LEAVE, (Lock.IMPORT,))

    @contextmanager
    def _lander(self) -> Iterator[Lander]:
        lander = Lander(
            self._settings.database.conninfo(), name=f"landing-{self._run_id}", catalog=lambda: self._catalog
        )
        try:
            yield lander
        finally:
            lander.close()

    def _reloaded(self) -> Definitions:
        """The definitions of this moment; the catalog follows them."""
        if self._settings.custom_events.enabled:
            found = load_definitions(self._connection, self._definitions)[0]
            if found.by_type != self._definitions.by_type or self._catalog is BUILT_IN:
                self._catalog = _catalog_of(found)
            self._definitions = found
        return self._definitions

    def _day(self, lander: Lander, day: date, horizon: datetime) -> DayDone:
        with self._original.day(day, horizon) as theirs:
            content, younger = theirs.content(), theirs.younger()
            progress = import_progress.begin(self._connection, self._original.name, day)
            if progress.is_verified and progress.has_read(content):
                return self._done(progress, younger, is_unchanged=True)
            span = progress.span
            ensure_range(self._connection, span["first"], span["end"] - timedelta(microseconds=1))
            if progress.is_verified:
                progress = self._again(progress)
            for _ in range(_PASSES):
                progress = self._pass(lander, theirs, progress)
                if progress.has_read(content):
                    break
                progress = self._again(progress)  # theirs was another when an interrupted pass began
            else:
                raise InvariantBroken(
                    f"the original's events of {day} are not those that were counted there before"
                )
        self._merge(span["first"], span["end"])
        if found := import_progress.difference(self._connection, progress):
            raise InvariantBroken(f"the events of {day} are not those that the import has stored: {found}")
        import_progress.mark_verified(self._connection, progress)
        return self._done(progress, younger)

    def _again(self, progress: Progress) -> Progress:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            import_progress.move(cursor, progress, progress.again())
        return progress.again()

    def _done(self, progress: Progress, younger: int, *, is_unchanged: bool = False) -> DayDone:
        read, stored, duplicate, dead, _ = progress.total
        reasons = Counter(import_progress.reasons(self._connection, progress.day))
        return DayDone(progress.day, read, stored, duplicate, dead, reasons, younger, is_unchanged)

    def _pass(self, lander: Lander, theirs: Day, progress: Progress) -> Progress:
        """Land the rest of a day, whatever becomes of single transactions."""
        while True:
            try:
                return self._batches(lander, theirs, progress)
            except CommitUnknown:
                lander.resolve([])
            except Overtaken:
                pass
            progress = import_progress.begin(self._connection, progress.origin, progress.day)

    def _batches(self, lander: Lander, theirs: Day, progress: Progress) -> Progress:
        first, most = progress.span["first"], self._batch_size
        with closing(theirs.rows(progress.reached)) as found:
            rows: Iterator[Row] = found
            while batch := _take(rows, most):
                began = time.monotonic()
                try:
                    progress = imports.land(lander, progress, batch, self._rules)
                except TimedOut:
                    if len(batch) == 1:
                        raise
                    most, rows = len(batch) // 2, chain(batch, rows)
                    continue
                most = min(self._batch_size, most * 2)
                self._moved(len(batch))
                hour = batch[-1].timestamp.replace(minute=0, second=0, microsecond=0)
                self._merge(first, hour)
                self._live_first(time.monotonic() - began)
        return progress

    def _merge(self, first: datetime, end: datetime) -> None:
        """Settle the hours that have been read, so that what is pending stays small no matter who else merges."""
        most = self._settings.analytics.aggregation.merge_batches
        for pending in pending_hours(self._connection):
            has_more = first <= pending.hour < end
            while has_more:
                merged = merge_hour(self._connection, pending.hour, run_id=self._run_id, max_batches=most)
                has_more = merged is not None and merged.has_more


def preview(
    connection: Connection,
    original: Original,
    settings: Settings,
    plan: Plan,
    *,
    batch_size: int = BATCH_SIZE,
) -> Iterator[DayDone]:
    """What `Importer.run` would make of each day; writes nothing.

    Args:
        connection: an autocommit connection to our database; read-only is enough.
        original: theirs.
        settings: limits.
        plan: the days, and the definitions that would be taken over.
        batch_size: rows judged at once.
    """
    active = (
        with_new(load_definitions(connection)[0], plan.definitions)
        if settings.custom_events.enabled
        else None
    )
    rules = Rules(lambda: active or NO_DEFINITIONS, Limits.of(settings))
    for day in plan.days:
        found = DayDone(day)
        with original.day(day, plan.horizon) as theirs:
            found.younger = theirs.younger()
            progress = import_progress.read(connection.cursor(), original.name, day)
            rows = theirs.rows(None)
            while batch := _take(rows, batch_size):
                outcomes, dead = imports.preview(connection, progress, batch, rules)
                found.read += len(batch)
                found.stored += sum(one.stored for one in outcomes)
                found.duplicate += sum(one.duplicate for one in outcomes)
                found.dead += len(dead)
                found.reasons.update(letter.reason.value for letter in dead)
        yield found


def _take(rows: Iterator[Row], most: int) -> Sequence[Row]:
    """The next rows, as many as fit into memory together."""
    taken, size = list[Row](), 0
    for row in rows:
        taken.append(row)
        size += len(row.properties)
        if len(taken) == most or size > _MOST_CHARACTERS:
            break
    return taken


def _catalog_of(definitions: Definitions) -> Catalog:
    return with_automatic(definitions.schemas)[0]
