"""A random life of the product on a real Postgres; after each step every number is what plain SQL says it has to be.

Belongs here: the steps, and what must hold after each. Does not belong here: what numbers have to be (`naive`),
what arrives (`streams`), how work is ended in the middle (`faults`).

Everything but Kafka is real: decoding, landing, inbox, merging, recomputing, closing of buckets, retention, metrics
that are edited and edited back. Time is what the machine says: midnights of 2024, and the clock around them.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import note
from hypothesis import strategies as st

from analytics_pipeline.errors import AnalyticsError, ConfigurationError
from analytics_pipeline.events.decode import Decoded, decode_batches
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import Message, PlainMessage, RawBatch
from analytics_pipeline.failpoints import FailPoint
from analytics_pipeline.rollups import levels
from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID, Catalog
from analytics_pipeline.rollups.compare import compare_rows
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage import backfill, buckets, inbox, recompute, retention, rollups
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.offsets import Claim, Span
from analytics_pipeline.storage.partitions import ensure_range
from tests.oracle import edits, faults, naive
from tests.oracle.releases import CATALOGS, Releases
from tests.oracle.streams import EDGES, END, PLACES, batches
from tests.oracle.world import World
from tests.unit.rollups.events import SCHEMA

SOURCE = "order.events"
LIMITS = Limits(raw_retention=timedelta(days=90))
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
RUN = "oracle"
POSTER = UUID(int=1)

POINTS = (
    FailPoint.BEFORE_COPY,
    FailPoint.MID_COPY,
    FailPoint.AFTER_COPY,
    FailPoint.AFTER_DEAD_LETTERS,
    FailPoint.AFTER_DELTAS,
    FailPoint.AFTER_CAS,
    FailPoint.BEFORE_COMMIT,
    FailPoint.AFTER_COMMIT,
)
Fault = AbstractContextManager[faults.Strike] | None


def _during(statements: int, *points: FailPoint) -> st.SearchStrategy[Fault]:
    """No fault, in two of three cases; else one of the first `statements`, or at a named moment."""
    ways = [st.builds(faults.at_statement, st.integers(1, statements), st.sampled_from(faults.Way))]
    if points:
        ways.append(st.builds(faults.at_point, st.sampled_from(points)))
    return st.integers(0, 2).flatmap(lambda drawn: st.one_of(ways) if drawn == 2 else st.none())


# About as many statements as each of these sends.
_DURING_LANDING, _DURING_MERGE, _DURING_RECOMPUTE = _during(12, *POINTS), _during(48), _during(60)
_DURING_REMOVAL, _DURING_CLEAN_UP = _during(30), _during(1)
_DURING_EDIT, _DURING_BACKFILL = _during(20), _during(160)
_WEIGHTS = {
    "rest": 1,
    "land": 10,
    "post": 4,
    "merge": 8,
    "recompute": 4,
    "close": 2,
    "retain": 1,
    "clean_up": 1,
    "edit": 3,
    "backfill": 3,
}
KINDS = [kind for kind, weight in _WEIGHTS.items() for _ in range(weight)]
"""What the next step is drawn from; the first is what a failure shrinks to."""

_METRICS = {
    catalog: st.none() | st.sets(st.sampled_from([*catalog.by_id, REGISTER_ID]), min_size=1)
    for catalog in CATALOGS
}
_EDITED_METRICS = st.none() | st.sampled_from(edits.NAMES)
_QUESTIONS, _LAST_QUESTIONS = 2, 6
"""To the API after each step, and at the end of a life."""
_GONE_AFTER = timedelta(days=30)
_TRUTH = """
SELECT uuid_send(id), event_type, user_id, session_id, coalesce(properties, '{}')::text, timestamp, is_late
FROM oracle.truth ORDER BY md5(id::text || timestamp::text)
"""

_ENDED = ("land", "post", "merge", "recompute", "retain", "clean up", "edit", "backfill")
_SEEN = ("incomplete", "answered by an edit", "answered by what was before", "edited back")
NEEDED = {
    *_ENDED, *(f"{kind}, ended" for kind in _ENDED), *_SEEN, "preview", "recompute, refused", "close", "settle",
}  # fmt: skip
"""Kinds of steps without which a run proves too little."""

steps_done: Counter[str] = Counter()
"""How often each kind of step really ran, over all machines of this process; a crash counts if it struck."""


class Oracle:
    """One life: `begin`, some `step`s, `end`; each raises `AssertionError` where a number is wrong."""

    def __init__(self, world: World, data: st.DataObject) -> None:
        self.world = world
        self.draw = data.draw
        self.catalog = BUILT_IN
        self.lander = self._new_lander()
        self.logs: dict[int, list[Message]] = {0: [], 1: []}
        self.claims: dict[int, Claim] = {}
        self.floor: datetime | None = None
        self.releases = Releases()
        self.is_new = True

    def begin(self) -> None:
        """Empty tables, and the partitions of the two days around a midnight."""
        self.world.renew()
        self.edge = EDGES[self.draw(st.sampled_from(sorted(EDGES)), "edge")]
        self.now = self.edge + END
        self.clock = self.edge - HOUR
        self.chance = random.Random(self.draw(st.integers(0, 999), "questions to the API"))
        ensure_range(self.world.main, self.edge - DAY, self.edge)
        edits.register(self.world.conninfo, BUILT_IN, self.clock)
        self.releases.start(self.world.main, BUILT_IN)
        self._start_landing()

    def step(self) -> None:
        """Do something, and look whether every number is right."""
        kind = KINDS[self.draw(st.integers(0, len(KINDS) - 1))]
        note(f"-- {kind}")
        getattr(self, f"_{kind}")()
        self._check()

    def end(self) -> None:
        """After a merge of everything, and a backfill of what is missing: raw in another order has the same bytes."""
        main = self.world.main
        for pending in rollups.pending_hours(main):
            self._merge_hour(pending.hour, 500)
        newest = self.releases.started[-1]
        for hour, missed in self.releases.missed_of(newest).items():
            self.releases.note_asked([hour], newest, missed)
            self._recompute_hour(hour, newest, missed)
        self._check(_LAST_QUESTIONS)
        ids = sorted(self.releases.complete())
        fresh = self._fresh(ids)
        for level in list(LEVELS)[1 if self.floor else 0 :]:
            settled = recompute.settled_rows(main, level, self.edge - DAY, self.edge + DAY, ids)
            assert compare_rows(settled, levels.roll_up(fresh, level), level) == [], f"{level}: other bytes"
        steps_done["settle"] += 1

    def close(self) -> None:
        """Leave the database."""
        self.lander.close()
        self.world.wait_for_the_dead()

    # --- the steps

    def _rest(self) -> None:
        pass

    def _land(self) -> None:
        """A batch of one Kafka partition or two, with what has not landed yet."""
        for number in self.draw(st.sampled_from([[0], [0, 1], [1]]), "partitions"):
            log = self.logs[number]
            for draft in self.draw(batches(self.edge), f"partition {number}"):
                log.append(PlainMessage(draft.content, len(log), int(draft.reached.timestamp() * 1000)))
        is_ahead = self.draw(st.booleans(), "deltas ahead")
        self.catalog = self._draw_release()
        self._do("land", lambda: self._land_logs(is_ahead), _DURING_LANDING)

    def _post(self) -> None:
        """A batch of the inbox."""
        posted = [draft.content for draft in self.draw(batches(self.edge), "posted")]

        async def append() -> None:
            async with await psycopg.AsyncConnection.connect(self.world.conninfo, autocommit=True) as opened:
                entry = inbox.Entry(b"\n".join(posted), len(posted))
                await inbox.append(opened, [entry], process_id=POSTER, now=self.now)

        asyncio.run(append())
        self.catalog = self._draw_release()
        self._do("post", self._land_inbox, _DURING_LANDING)

    def _merge(self) -> None:
        """The pending deltas of an hour, or one batch of them."""
        if hours := rollups.pending_hours(self.world.main):
            hour = hours[self.draw(st.integers(0, 3), "hour") % len(hours)].hour
            most = self.draw(st.sampled_from([500, 1]), "batches")
            self._do("merge", lambda: self._merge_hour(hour, most), _DURING_MERGE)

    def _recompute(self) -> None:
        """All metrics of an hour, or some."""
        hours = [self.edge + number * HOUR for number in (0, -1, 1, -2)]
        standing = sorted({hour for _, hour in self.releases.standing})
        hour = self.draw(st.sampled_from(hours + 2 * standing), "hour")
        catalog = self._draw_release()
        metrics = self.draw(_METRICS[catalog], "metrics")
        is_preview = self.draw(st.integers(0, 3), "preview") == 3
        if not is_preview:
            self.releases.note_asked([hour], catalog, metrics)
        self._do(
            "preview" if is_preview else "recompute",
            lambda: self._recompute_hour(hour, catalog, metrics, write=not is_preview),
            _DURING_RECOMPUTE,
        )

    def _edit(self) -> None:
        """An ingest process of the other release starts: its definitions are what the names mean from now on."""
        catalog = self.releases.next
        self.clock = max(self.clock, self.edge + self.draw(st.sampled_from(PLACES), "clock"))
        self._do("edit", lambda: edits.register(self.world.conninfo, catalog, self.clock), _DURING_EDIT)
        self.releases.start(self.world.main, catalog)
        if len(self.releases.started) > 2:
            steps_done["edited back"] += 1

    def _backfill(self) -> None:
        """Of all metrics, or of an edited one, from some hour until now, or not quite."""
        catalog = self._draw_release()
        name = self.draw(_EDITED_METRICS, "metric")
        first = self.draw(st.sampled_from([-1, 0, -2, 1]), "first")
        last = self.draw(st.sampled_from([1, 1, 0]), "last")
        hours = [self.edge + number * HOUR for number in range(first, last + 1)]
        hours = [hour for hour in hours if self.floor is None or hour >= self.floor]
        if hours:
            ids = None if name is None else {catalog.by_name[name].metric_id}
            self.releases.note_asked(hours, catalog, ids)
            self._do("backfill", lambda: self._backfill_hours(hours, catalog, ids), _DURING_BACKFILL)

    def _close(self) -> None:
        """Buckets become final; what lands in them later restates them."""
        grace = self.draw(st.sampled_from([timedelta(0), HOUR]), "grace")
        buckets.finalize_buckets(
            self.world.main, now=self.now, graces=dict.fromkeys(LEVELS, grace), run_id=RUN
        )
        steps_done["close"] += 1

    def _retain(self) -> None:
        """The day before the edge goes, by the asset's code."""
        self._keep_raw(_GONE_AFTER)
        self._do("retain", self._remove_expired, _DURING_REMOVAL)

    def _clean_up(self) -> None:
        """It goes by plain SQL, at the wall clock's time."""
        [(age,)] = self.world.main.execute("SELECT now() - %s", (self.edge + DAY / 2,)).fetchall()
        self._keep_raw(age)
        call = "SELECT cleanup_old_data()"
        self._do("clean up", lambda: self.world.main.execute(call), _DURING_CLEAN_UP)

    # --- what must hold

    def _check(self, questions: int = _QUESTIONS) -> None:
        main = self.world.main
        stored = naive.keep_truth(main)
        self.releases.note_stored(main, self.catalog, stored)
        if stored or self.is_new:
            naive.say(main)
            self.is_new = False
        self._note_what_went()
        naive.expect(main)
        kinds = edits.answer(main)
        if len(self.releases.started) > 1:
            steps_done.update(kinds)
        gone, left = self.releases.wrong_gaps(main)
        assert not gone, f"gaps that no recompute of their metric has closed are gone: {gone}"
        assert not left, f"gaps are left that a recompute has closed: {left}"
        mistakes = naive.mistakes(main)
        self.world.reads.reload()
        times = [self.edge - DAY, self.edge + DAY, *(self.edge + place for place in PLACES)]
        for _ in range(questions):
            catalog = self.chance.choice(self.releases.started)
            asked = self.world.reads.ask_something(main, catalog, self.chance, times)
            mistakes += self.world.reads.mistakes(main, catalog, asked)
        assert not mistakes, "\n".join(map(str, mistakes))

    def _fresh(self, ids: Collection[str]) -> pa.Table:
        """Deltas of raw in another order, 19 events at a time."""
        rows = self.world.main.execute(_TRUTH).fetchall()
        columns = zip(*rows, strict=True) if rows else [[]] * len(SCHEMA)
        events = pa.table(
            [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)],
            schema=SCHEMA,
        )
        left, found = set(ids), [compute_deltas(events.slice(0, 0), BUILT_IN)]
        for catalog in self.releases.known:
            wanted = left & {*catalog.by_id, REGISTER_ID}
            left -= wanted
            for at in range(0, len(rows), 19):
                deltas = compute_deltas(events.slice(at, 19), catalog)
                chosen = pc.is_in(deltas.column("metric_id"), pa.array(wanted, pa.string()))
                found.append(deltas.filter(chosen))
        return pa.concat_tables(found)

    # --- how

    def _do(self, kind: str, work: Callable[[], object], during: st.SearchStrategy[Fault]) -> None:
        """Do it; where it ends in the middle, a new process takes over."""
        fault = self.draw(during, "fault")
        if fault is None:
            work()
            steps_done[kind] += 1
            return
        with fault as strike:
            try:
                work()
            except (faults.Killed, AnalyticsError, psycopg.Error):
                if not strike.has_struck:
                    raise
        if strike.has_struck:
            steps_done[f"{kind}, ended"] += 1
            self.world.main.close()
            self._start_landing()

    def _new_lander(self) -> Lander:
        return Lander(self.world.conninfo, name="landing-oracle", catalog=lambda: self.catalog)

    def _draw_release(self) -> Catalog:
        known = self.releases.known
        return known[self.draw(st.integers(0, len(known) - 1), "release")]

    def _start_landing(self) -> None:
        self.lander.close()
        self.lander = self._new_lander()
        self.world.wait_for_the_dead()
        for number in self.logs:
            self.claims[number] = self.lander.claim((SOURCE, number), 0)

    def _land_logs(self, is_ahead: bool) -> None:
        """All that was sent and has not landed, in one transaction."""
        spans, raw = [], []
        for number, log in self.logs.items():
            claim = self.claims[number]
            waiting = log[claim.next_offset :]
            if waiting:
                spans.append(Span(SOURCE, number, claim.next_offset, len(log), len(waiting), claim.epoch))
                raw.append(RawBatch(SOURCE, number, waiting))
        if spans:
            decoded = self._decode(raw)
            self.lander.land(spans, decoded, self.lander.deltas_ahead(decoded) if is_ahead else None)
            self.claims |= {span.partition: Claim(span.next_offset, span.epoch) for span in spans}

    def _land_inbox(self) -> None:
        self.lander.land_inbox(100, lambda messages: self._decode([RawBatch("http", 0, messages)]))

    def _decode(self, raw: list[RawBatch]) -> Decoded:
        decoded = decode_batches(raw, now=self.now, limits=LIMITS)
        self.releases.note_landed(self.catalog, decoded.events)
        return decoded

    def _merge_hour(self, hour: datetime, most: int) -> None:
        merged = rollups.merge_hour(self.world.main, hour, run_id=RUN, max_batches=most)
        assert merged is not None, "nobody else holds the hour"

    def _recompute_hour(
        self, hour: datetime, catalog: Catalog, metrics: Collection[str] | None, *, write: bool = True
    ) -> None:
        """What was served is right, so a recompute finds no difference."""
        ids = None if metrics is None else sorted(metrics)
        try:
            done = recompute.recompute_hour(
                self.world.conninfo, hour, run_id=RUN, catalog=catalog, metric_ids=ids, write=write
            )
        except ConfigurationError:
            assert self.floor is not None, "refused though its raw events are there"
            assert hour < self.floor, "refused though its raw events are there"
            steps_done["recompute, refused"] += 1
        else:
            assert self.floor is None or hour >= self.floor, "recomputed from raw events that are gone"
            self.releases.note_recomputed([done], catalog, ids)

    def _backfill_hours(
        self, hours: list[datetime], catalog: Catalog, metrics: Collection[str] | None
    ) -> None:
        with connection(self.world.conninfo, name="backfill", autocommit=True) as opened:
            planned = backfill.plan(opened, hours, catalog=catalog, metric_ids=metrics)
            self.releases.note_recomputed(
                backfill.carry_out(
                    opened, self.world.conninfo, planned, run_id=RUN, before_hour=lambda: None
                ),
                catalog,
                metrics,
            )

    def _keep_raw(self, age: timedelta) -> None:
        """Raw events, and the minutes with their states, for so long; all else for ever."""
        with self.world.main.transaction():
            self.world.main.execute("DELETE FROM retention_policies")
            for parent, kind in (
                ("events", "raw"),
                ("metric_states_1m", "rollup"),
                ("metric_aggregations_1m", "rollup"),
                ("metric_buckets_1m", "rollup"),
            ):
                self.world.main.execute(
                    "INSERT INTO retention_policies (parent, kind, keep) VALUES (%s, %s, %s)",
                    (parent, kind, age),
                )

    def _remove_expired(self) -> None:
        now = self.edge + DAY / 2 + _GONE_AFTER
        retention.remove_expired(self.world.main, now=now, run_id=RUN)

    def _note_what_went(self) -> None:
        """Nothing lands below the floor; minutes are kept from where their partitions begin."""
        [(floor,)] = self.world.main.execute("SELECT raw_floor FROM retention_state").fetchall()
        self.floor = floor if floor > self.edge - DAY else None
        self.world.main.execute(naive.KEPT_FROM, {"first": self.edge - DAY})
