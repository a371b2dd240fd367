"""A backfill: hours recomputed one by one, below live work, and taken up again where it was interrupted.

Belongs here: which hours are left, their progress in Postgres, and when to let live work go first.
Does not belong here: recomputing an hour (`storage.recompute`), words and arguments (`cli.backfill`).
"""

import difflib
import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID, Catalog
from analytics_pipeline.rollups.schema import HOUR_LEVELS
from analytics_pipeline.storage import metric_versions
from analytics_pipeline.storage.archived_events import Archives, RawEventsGone, archived_day, kept
from analytics_pipeline.storage.books import Freshness, freshness, waiting
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.connection import connection as connected
from analytics_pipeline.storage.days import BackfilledDay
from analytics_pipeline.storage.empty_hours import EmptyHours
from analytics_pipeline.storage.recompute import RecomputeResult, recompute_hour
from analytics_pipeline.storage.recompute_day import recompute_day

_RAW_BEGIN = """
SELECT greatest(
    (SELECT raw_floor FROM retention_state), (SELECT min(lower_bound) FROM time_partitions WHERE parent = 'events')
)
"""
_DONE = """
SELECT hour, done_at FROM backfill_progress
WHERE metric_set = %(metrics)s AND hour >= %(first)s AND hour < %(end)s
    AND (%(runs)s::text[] IS NULL OR run_id = ANY(%(runs)s))
ORDER BY hour
"""
_MARK = """
INSERT INTO backfill_progress (metric_set, hour, run_id) SELECT %s, unnest(%s::timestamptz[]), %s
ON CONFLICT (metric_set, hour) DO UPDATE SET run_id = excluded.run_id, done_at = clock_timestamp()
"""
_FORGET = "DELETE FROM backfill_progress WHERE metric_set = %s AND hour >= %s AND hour < %s"
_PLANNED = """
INSERT INTO backfill_plans (metric_set, hours)
SELECT %s, range_agg(tstzrange(hour, hour + interval '1 hour')) FROM unnest(%s::timestamptz[]) AS hour
HAVING count(*) > 0
ON CONFLICT (metric_set) DO UPDATE
SET hours = backfill_plans.hours + excluded.hours, planned_at = clock_timestamp()
"""
_FORGET_PLAN = """
WITH left_over AS (
    UPDATE backfill_plans SET hours = hours - tstzmultirange(tstzrange(%(first)s, %(end)s))
    WHERE metric_set = %(metrics)s AND NOT hours <@ tstzmultirange(tstzrange(%(first)s, %(end)s))
)
DELETE FROM backfill_plans
WHERE metric_set = %(metrics)s AND hours <@ tstzmultirange(tstzrange(%(first)s, %(end)s))
"""

MOST_LAG = 10.0
"""Seconds that landing may be behind before a backfill waits for it."""
MOST_PENDING = 120.0
"""Seconds that deltas may wait to be merged before a backfill waits for merges; live runs come once a minute."""
PATIENCE = 60.0
"""Seconds that a backfill waits before each hour at most: live work goes first, but does not stop it for ever."""
_LOOK = 1.0
_ROUNDS = 2
_PASSED = 7 * 24
"""Empty hours that are noted at once."""


@dataclass(frozen=True)
class Plan:
    """What a backfill has to do.

    Attributes:
        hours: starts of the UTC hours that are left, oldest first.
        catalog: what can be computed.
        metric_ids: what is recomputed, the register of buckets included where it is all of the catalog.
        first: start of the whole range.
        end: its end.
        eras: the version in force of each metric; what was done for another one does not count.
        done: hours of the range that an interrupted backfill of the same metrics has done.
        done_at: when it did the last of them.
        whole_days: UTC days without rows at 1h: all hours of each are done at once, from its archive.
    """

    hours: list[datetime]
    catalog: Catalog
    metric_ids: tuple[str, ...]
    first: datetime
    end: datetime
    eras: Mapping[str, int]
    done: int = 0
    done_at: datetime | None = None
    whole_days: frozenset[date] = frozenset()

    @property
    def metric_set(self) -> str:
        """One short text for the metrics, whatever their order."""
        return metric_set_of(self.metric_ids, self.eras)


def metric_set_of(metric_ids: Iterable[str], eras: Mapping[str, int]) -> str:
    """One short text for these metrics in these versions, whatever their order."""
    parts = (f"{metric_id}:{eras.get(metric_id, 0)}" for metric_id in sorted(metric_ids))
    return hashlib.sha256(",".join(parts).encode()).hexdigest()[:16]


def whole_hours(start: datetime, end: datetime) -> list[datetime]:
    """Starts of the UTC hours that `[start, end)` touches."""
    first = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    count = -((first - end) // timedelta(hours=1))
    return [first + timedelta(hours=number) for number in range(max(0, count))]


def ids_of(names: Sequence[str], catalog: Catalog) -> list[str] | None:
    """The ids of these metrics, or None, which is all of the catalog, where no name is given.

    Raises:
        ConfigurationError: one sentence for each name that the catalog does not have.
    """
    found, problems = [], []
    for name in names:
        if (selection := catalog.resolve(name)) is not None:
            found.append(selection.metric.metric_id)
            continue
        near = difflib.get_close_matches(name, catalog.by_name, n=1)
        hint = f"did you mean {near[0]}?" if near else "`analytics metrics list` shows those there are"
        problems.append(f"there is no metric {name!r}; {hint}")
    if problems:
        raise ConfigurationError(*problems)
    return list(dict.fromkeys(found)) or None


def check_registered(connection: Connection, metric_ids: Sequence[str], catalog: Catalog) -> None:
    """See that these metrics answer for their names, so that what is computed is also shown.

    Raises:
        ConfigurationError: no ingest process has started with the present definition of some.
    """
    known = metric_versions.eras(connection, metric_ids)
    if new := [catalog.by_id[one].name for one in metric_ids if one not in known]:
        raise ConfigurationError(
            f"no ingest process has started with the present definition of {', '.join(new)}, so nobody would see "
            "what is computed: `analytics restart ingest` first (a dry run needs none)"
        )


def needed_until(
    connection: Connection, catalog: Catalog, metric_ids: Collection[str] | None
) -> datetime | None:
    """How far a backfill of these metrics, or of all, has to go to leave no hole before what they answer already."""
    return metric_versions.available_from(connection, catalog.by_id if metric_ids is None else metric_ids)


def raw_begin(connection: Connection) -> datetime:
    """From when on Postgres has raw events; what lies before can only be recomputed from an archive."""
    row = connection.execute(_RAW_BEGIN).fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def _whole_days(connection: Connection, hours: Sequence[datetime]) -> frozenset[date]:
    """The days of these hours that can only be recomputed whole; sees that all hours can be recomputed at all.

    Raises:
        ConfigurationError: raw events are gone and no verified archive holds them, or of a day that can only be
            recomputed whole some hours are missing here.
    """
    begin = raw_begin(connection)
    by_day: dict[datetime, int] = {}
    for hour in hours:
        if hour < begin:
            day = hour.astimezone(UTC).replace(hour=0)
            by_day[day] = by_day.get(day, 0) + 1
    if lost := [day for day in by_day if archived_day(connection, day) is None]:
        if len(lost) == len(by_day):
            raise ConfigurationError(
                f"raw events from before {begin:%Y-%m-%dT%H:%MZ} are gone (retention), so nothing before can be "
                "recomputed: begin there"
            )
        raise ConfigurationError(
            f"raw events of {_days(lost)} are gone (retention) and no verified archive holds them: leave them out"
        )
    left = {day: kept(connection, day) for day in by_day}
    if forgotten := [day for day, found in left.items() if "1d" not in found.levels]:
        raise ConfigurationError(
            f"no rollups of {_days(forgotten)} are kept any more (retention): leave them out"
        )
    whole = [day for day, found in left.items() if not found.has_hours]
    if partial := [day for day in whole if by_day[day] < 24]:
        raise ConfigurationError(
            f"rows at 1h of {_days(partial)} are gone (retention), so a day is recomputed only as a whole: take in all "
            "of it or none"
        )
    return frozenset(day.date() for day in whole)


def _days(days: Sequence[datetime]) -> str:
    more = f" and {len(days) - 1} other days" if len(days) > 1 else ""
    return f"{days[0]:%Y-%m-%d}{more}"


def plan(
    connection: Connection,
    hours: Sequence[datetime],
    *,
    catalog: Catalog = BUILT_IN,
    metric_ids: Collection[str] | None = None,
    restart: bool = False,
    of_runs: Collection[str] | None = None,
) -> Plan:
    """Plan a backfill: all of these hours, without those that an interrupted one of the same metrics has done.

    Args:
        connection: any.
        hours: starts of UTC hours, oldest first, at least one.
        catalog: what can be computed.
        metric_ids: what of it to recompute; None for all of it and the register.
        restart: do every hour again.
        of_runs: only what one of these runs has done counts as done; None for any run.

    Raises:
        ConfigurationError: some of the hours cannot be recomputed; one sentence says which and why.
    """
    ids = (*catalog.by_id, REGISTER_ID) if metric_ids is None else tuple(metric_ids)
    end = hours[-1] + timedelta(hours=1)
    eras = metric_versions.eras(connection, ids)
    whole = Plan(list(hours), catalog, ids, hours[0], end, eras, whole_days=_whole_days(connection, hours))
    if restart:
        return whole
    runs = None if of_runs is None else list(of_runs)
    span = {"metrics": whole.metric_set, "first": hours[0], "end": end, "runs": runs}
    done = dict(connection.execute(_DONE, span).fetchall())
    left = [hour for hour in hours if hour not in done]
    return replace(whole, hours=left, done=len(hours) - len(left), done_at=max(done.values(), default=None))


def carry_out(
    connection: Connection,
    conninfo: str,
    planned: Plan,
    *,
    run_id: str,
    before_hour: Callable[[], None],
    switched: Callable[[list[str], datetime], None] = lambda _names, _first: None,
    skipped: Callable[[datetime], None] = lambda _hour: None,
) -> Iterator[RecomputeResult]:
    """Recompute the hours one by one; each is done or not done, with its progress, in one transaction.

    Interrupted at any moment, `plan` leaves out what was done. The transaction that ends it forgets its progress and
    lets the metrics answer for the whole range that did not yet, unless landings have left out some of it meanwhile:
    those hours are recomputed before, twice at most.

    Hours that retention lets go while it runs are left out: the metrics answer from the first hour after them on.

    Args:
        connection: an autocommit connection, to forget with.
        conninfo: where the database is.
        planned: what to do.
        run_id: noted in the register, the feed and the progress.
        before_hour: called before each hour in which there is something; may wait (`LiveFirst`).
        switched: told at the end which names are answered by another version, or from another time on; and from when
            on they answer.
        skipped: told of each hour that is left out.
    """
    first = planned.first

    def skip(hour: datetime) -> None:
        nonlocal first
        if hour >= first:
            first = hour + timedelta(hours=1)
            skipped(hour)

    connection.execute(_PLANNED, (planned.metric_set, planned.hours))
    to_do = _hours_to_do(connection, planned)
    yield from _recompute(conninfo, planned, to_do, run_id, before_hour, skip, write=True, is_noted=True)
    with connection.transaction():
        names = metric_versions.switch(connection, planned.metric_ids, first, planned.end)
        connection.execute(_FORGET, (planned.metric_set, planned.first, planned.end))
        span = {"metrics": planned.metric_set, "first": planned.first, "end": planned.end}
        connection.execute(_FORGET_PLAN, span)
    switched(names, first)


def _hours_to_do(connection: Connection, planned: Plan) -> Iterator[datetime]:
    yield from planned.hours
    for _ in range(_ROUNDS):
        yield from metric_versions.gap_hours(connection, planned.metric_ids, planned.first, planned.end)


def recompute(
    conninfo: str,
    planned: Plan,
    *,
    run_id: str,
    before_hour: Callable[[], None],
    write: bool,
    skipped: Callable[[datetime], None] = lambda _hour: None,
) -> Iterator[RecomputeResult]:
    """The same without noting progress; where `write` is False, compare the hours and write nothing."""
    return _recompute(
        conninfo, planned, planned.hours, run_id, before_hour, skipped, write=write, is_noted=False
    )


def _recompute(
    conninfo: str,
    planned: Plan,
    to_do: Iterable[datetime],
    run_id: str,
    before_hour: Callable[[], None],
    skip: Callable[[datetime], None],
    *,
    write: bool,
    is_noted: bool,
) -> Iterator[RecomputeResult]:
    archives = Archives()
    of_days = _by_day(planned.hours)
    empty = EmptyHours(conninfo, _single(planned), planned.metric_ids)
    passed: list[datetime] = []
    backfilled: BackfilledDay | None = None
    for hour in to_do:
        day = hour.astimezone(UTC).replace(hour=0)
        is_whole_day = day.date() in planned.whole_days
        if is_whole_day and hour.astimezone(UTC).hour:
            continue  # done with the first hour of its day
        # What is done once more, because landings have left out some of it, is of no day here.
        of_day = of_days.get(day, [])
        is_passed = not is_whole_day and empty.take(hour, is_first_of_day=hour in of_day[:1])
        if passed and (not is_passed or len(passed) >= _PASSED):
            _note(conninfo, planned, passed, run_id)
            passed = []
        hours = [hour + timedelta(hours=number) for number in range(24 if is_whole_day else 1)]

        def mark(at: Connection, hours: Sequence[datetime] = hours) -> None:
            at.execute(_MARK, (planned.metric_set, list(hours), run_id))

        common: dict[str, Any] = {
            "run_id": run_id, "catalog": planned.catalog, "metric_ids": planned.metric_ids, "write": write,
            "archives": archives, "in_transaction": mark if is_noted else None,
        }  # fmt: skip
        if is_whole_day:
            yield recompute_day(conninfo, hour, before_hour=before_hour, **common)
            continue
        if is_passed:
            result = _nothing(hour, is_written=write)
            passed += [hour] if is_noted else []
        else:
            before_hour()
            if of_day and backfilled is None:
                backfilled = BackfilledDay(
                    conninfo, day, of_day, catalog=planned.catalog, metric_ids=planned.metric_ids
                )
            compared = backfilled.add if backfilled and of_day else None
            try:
                result = recompute_hour(conninfo, hour, compared=compared, **common)
            except RawEventsGone:  # since `plan`, which saw to it that they were there
                skip(hour)
                of_days.pop(day, None)
                backfilled = None
                continue
        if hour in of_day[-1:]:
            result = replace(backfilled.completed(result), is_empty=False) if backfilled else result
            backfilled = None
            del of_days[day]
        yield result
    if passed:
        _note(conninfo, planned, passed, run_id)


def _single(planned: Plan) -> list[datetime]:
    """The hours that are recomputed one by one."""
    return [hour for hour in planned.hours if hour.astimezone(UTC).date() not in planned.whole_days]


def _nothing(hour: datetime, *, is_written: bool) -> RecomputeResult:
    none = dict.fromkeys(HOUR_LEVELS, 0)
    return RecomputeResult(hour, 0, 0, none, none, [], is_written=is_written, seconds=0.0, is_empty=True)


def _note(conninfo: str, planned: Plan, hours: list[datetime], run_id: str) -> None:
    """Note hours that were passed, after they were told: interrupted before, it tells them again."""
    with connected(conninfo, name="recompute", autocommit=True) as opened:
        opened.execute(_MARK, (planned.metric_set, hours, run_id))


def _by_day(hours: Iterable[datetime]) -> dict[datetime, list[datetime]]:
    found: dict[datetime, list[datetime]] = {}
    for hour in hours:
        found.setdefault(hour.astimezone(UTC).replace(hour=0), []).append(hour)
    return found


def live_work_behind(found: Freshness, *, is_landing: bool) -> str | None:
    """Why a backfill should wait now, or None.

    Where no process lands events there is no live work to disturb, however old its last sign is.
    """
    if not is_landing:
        return None
    lag = max(found.behind_kafka or 0, found.oldest_in_inbox or 0)
    if lag > MOST_LAG:
        return f"landing is {lag:.0f} s behind"
    if (found.oldest_pending or 0) > MOST_PENDING:
        return f"{found.pending:,} deltas wait to be merged, for {found.oldest_pending:.0f} s"
    return None


@dataclass(frozen=True)
class LiveFirst:
    """Waits while live work is behind, `PATIENCE` at most; called before each hour.

    Attributes:
        connection: an autocommit connection to look with.
        say: told why it waits, when it begins to, and None when it goes on.
        pause: waits so many seconds.
        clock: seconds that only grow.
    """

    connection: Connection
    say: Callable[[str | None], None]
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __call__(self) -> None:
        """Return when live work is not behind, or patience is at its end."""
        if (reason := self._reason()) is None:
            return
        self.say(reason)
        limit = self.clock() + PATIENCE
        while self.clock() < limit and self._reason() is not None:
            self.pause(_LOOK)
        self.say(None)

    def _reason(self) -> str | None:
        is_landing = waiting(self.connection).landing_connections > 0
        return live_work_behind(freshness(self.connection, now=datetime.now(UTC)), is_landing=is_landing)
