"""Budgets of series on a real Postgres: never more places than there are, and one verdict for all, whoever asks."""

import json
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from analytics_pipeline import failpoints
from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.failpoints import FailPoint
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.rollups.cardinality import OTHER, other_of
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.settings import environment
from analytics_pipeline.storage import recompute, rollups, series
from analytics_pipeline.storage.connection import Connection, Lock, connect
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.migrations import available, migrate
from analytics_pipeline.storage.offsets import Claim
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.series import Admission, Usage
from tests.integration.api_support import iso, running, settings_for
from tests.integration.databases import fresh_database
from tests.integration.landing_rig import (
    SOURCE,
    check_books,
    claim,
    decode,
    decode_inbox,
    event,
    land,
    message,
    rows,
    span,
    value,
)
from tests.integration.stepping import Doing, Steps, wait_until_blocked
from tests.integration.test_landing_process import post
from tests.unit.rollups.events import batch

NAME = "events.count"
LIMIT = 3


def with_budget(limit: int) -> Catalog:
    """The built-in catalog with a budget of so many event types, and as many symbols and strategies."""
    return Catalog(tuple(replace(metric, series_limit=limit) for metric in BUILT_IN.metrics))


TIGHT = with_budget(LIMIT)
METRIC = TIGHT.by_name[NAME]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
NOON = TODAY - timedelta(hours=12)
"""Of yesterday."""


def typed(*kinds: str, at: datetime = NOON) -> list[dict[str, Any]]:
    """An event of each type, ids by type, place and time."""
    return [
        event(number, event_type=kind, id=None, timestamp=(at + timedelta(milliseconds=number)).isoformat())
        for number, kind in enumerate(kinds)
    ]


class Ingest:
    """A landing process: what it remembers, and a partition of its own."""

    def __init__(self, database: str, partition: int = 0, catalog: Catalog = TIGHT) -> None:
        self.partition = partition
        self.lander = Lander(
            database,
            name=f"landing-{partition}",
            catalog=lambda: catalog,
            admission=Admission(database, name=f"admission-{partition}"),
        )
        self.owner = claim(database, (SOURCE, partition))

    def land(self, events: list[dict[str, Any]], *, ahead: bool = False) -> Any:
        messages = [message(self.owner.next_offset + at, each) for at, each in enumerate(events)]
        decoded = decode([RawBatch(SOURCE, self.partition, messages)])
        where = span(self.owner, messages, SOURCE, self.partition)
        landed = self.lander.land([where], decoded, self.lander.deltas_ahead(decoded) if ahead else None)
        self.owner = Claim(where.next_offset, self.owner.epoch)
        return landed


@pytest.fixture
def ingest(database: str) -> Iterator[Ingest]:
    made = Ingest(database)
    yield made
    made.lander.close()


@pytest.fixture
def other(database: str) -> Iterator[Ingest]:
    made = Ingest(database, 1)
    yield made
    made.lander.close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    made = Steps()
    monkeypatch.setattr(failpoints, "_armed", made)
    yield made
    made.release_all()


def counted(database: str, day: datetime = NOON, name: str = "metrics_live") -> dict[str, int]:
    """Events of a UTC day by type, settled and pending."""
    found = rows(
        database,
        "SELECT dimensions ->> 'event_type', metric_name, count FROM metrics_live WHERE metric_id = %s"
        " AND dimension_set = 'event_type' AND interval = '1d' AND time_bucket = %s",
        METRIC.metric_id,
        day.replace(hour=0, minute=0),
    )
    assert all(metric_name == f"{NAME}.{kind}" for kind, metric_name, _ in found)
    return {kind: count for kind, _, count in found}


def taken(database: str, day: datetime = NOON) -> set[str]:
    """Event types with a place."""
    return {
        kind
        for (kind,) in rows(
            database,
            "SELECT dimensions ->> 'event_type' FROM metric_series WHERE metric_id = %s AND day = %s",
            METRIC.metric_id,
            day.date(),
        )
    }


@pytest.mark.parametrize("ahead", [False, True])
def test_what_has_no_place_is_counted_together(database: str, ingest: Ingest, ahead: bool) -> None:
    """Who counts more comes first, then the order is that of names; each day anew."""
    landed = ingest.land(typed("d", "c", "c", "b", "a", "e", "e", "e"), ahead=ahead)
    assert taken(database) == {"a", "c", "e"}
    assert counted(database) == {"e": 3, "c": 2, "a": 1, OTHER: 2}
    assert landed.others == {(NAME, "event_type"): 2}
    assert value(
        database,
        "SELECT sum(count) FROM metrics_live WHERE metric_id = %s AND dimension_set = '' AND interval = '1d'",
        METRIC.metric_id,
    ) == 8  # fmt: skip
    landed = ingest.land(typed("d", "b", "a", at=NOON + timedelta(hours=1)), ahead=ahead)
    assert counted(database) == {"e": 3, "c": 2, "a": 2, OTHER: 4}
    assert ingest.land(typed("d", "b", at=TODAY), ahead=ahead).others == {}
    assert counted(database, TODAY) == {"d": 1, "b": 1}
    check_books(database)


def test_a_verdict_outlives_its_process(database: str, ingest: Ingest, other: Ingest) -> None:
    ingest.land(typed("a", "b", "c", "d"))
    other.land(typed("d", "c", "x", "a", at=NOON + timedelta(minutes=1)))
    assert counted(database) == {"a": 2, "b": 1, "c": 2, OTHER: 3}


def test_posted_and_duplicate_events_keep_to_it(database: str, ingest: Ingest) -> None:
    sent = typed("a", "b", "c", "d")
    for number, each in enumerate(sent):
        each["id"] = event(number)["id"]
    ingest.land(sent)
    landed = ingest.land([*sent, *typed("d", "a", at=NOON + timedelta(hours=2))], ahead=True)
    assert landed.used_fallback
    assert landed.others == {(NAME, "event_type"): 1}
    assert counted(database) == {"a": 2, "b": 1, "c": 1, OTHER: 2}
    post(database, 1, 2, 3)  # today, all of one type
    assert ingest.lander.land_inbox(100, decode_inbox) is not None
    assert taken(database, TODAY) == {"order.placed"}
    check_books(database)


@pytest.mark.slow
def test_a_series_that_is_known_asks_nobody(database: str, ingest: Ingest, db: Connection) -> None:
    """Neither one with a place, nor one that is refused: somebody holds the day, and it lands."""
    ingest.land(typed("a", "b", "c", "d"))
    with db.transaction():
        db.execute(
            "SELECT pg_advisory_xact_lock(%s, %s)", (Lock.SERIES, (NOON.date() - date(1970, 1, 1)).days)
        )
        ingest.land(typed("a", "d", "new", at=NOON + timedelta(minutes=1)))
        with pytest.raises(EnvironmentFault, match="did not admit series"):
            ingest.land(
                [event(7, timestamp=(NOON + timedelta(minutes=2)).isoformat(), properties={"symbol": "new"})]
            )
    assert counted(database) == {"a": 2, "b": 1, "c": 1, OTHER: 3}
    ingest.land([event(7, timestamp=(NOON + timedelta(minutes=2)).isoformat(), properties={"symbol": "new"})])
    check_books(database)


def test_two_processes_admit_at_once(database: str, ingest: Ingest, other: Ingest, steps: Steps) -> None:
    """One holds the day, the other waits, and then both say the same."""
    steps.hold("one", FailPoint.IN_ADMISSION)
    first = Doing("one", lambda: ingest.land(typed("a", "b", "c", "d"), ahead=True))
    steps.wait_at("one", FailPoint.IN_ADMISSION)
    second = Doing("two", lambda: other.land(typed("c", "d", "e", "f"), ahead=True))
    wait_until_blocked(database, "admission-1")
    steps.release("one", FailPoint.IN_ADMISSION)
    assert first.result().others == {(NAME, "event_type"): 1}
    assert second.result().others == {(NAME, "event_type"): 3}
    assert taken(database) == {"a", "b", "c"}
    assert counted(database) == {"a": 1, "b": 1, "c": 2, OTHER: 4}


@pytest.mark.slow
def test_whoever_is_stopped_while_admitting_lets_go(
    database: str, ingest: Ingest, other: Ingest, steps: Steps
) -> None:
    steps.hold("one", FailPoint.IN_ADMISSION)
    first = Doing("one", lambda: ingest.land(typed("a", "b", "c", "d")))
    steps.wait_at("one", FailPoint.IN_ADMISSION)
    other.land(typed("w", "x", "y", "z"))
    steps.release("one", FailPoint.IN_ADMISSION)
    with pytest.raises(EnvironmentFault, match="did not admit series"):
        first.result()
    ingest.land(typed("a", "z"))
    assert counted(database) == {"w": 1, "x": 1, "y": 1, OTHER: 3}


@pytest.mark.slow
def test_however_many_ask_at_once_no_place_is_given_twice(database: str) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    limit, chance = 40, random.Random(seed)
    metrics = with_budget(limit).by_id
    metric = with_budget(limit).by_name[NAME].metric_id
    kinds = pa.array([f"type-{chance.randrange(120)}" for _ in range(1200)])
    whole = compute_deltas(batch(1200, seed=seed).set_column(1, "event_type", kinds), with_budget(limit))
    found: list[pa.Table] = []

    def ask(number: int) -> None:
        order = list(range(whole.num_rows))
        random.Random(seed + number).shuffle(order)
        with Admission(database) as admission:
            found.extend(
                [
                    admission.within_budget(whole.take(pa.array(order[at : at + 150])), metrics)
                    for at in range(0, len(order), 150)
                ]
            )

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4 * -(-whole.num_rows // 150)
    places = rows(database, "SELECT metric_id, dimension_set, count(*) FROM metric_series GROUP BY 1, 2")
    assert max(count for *_, count in places) == limit
    admitted = {
        f"{NAME}.{kind}"
        for (kind,) in rows(
            database, "SELECT dimensions ->> 'event_type' FROM metric_series WHERE metric_id = %s", metric
        )
    }
    named: Counter[str] = Counter()
    for row in pa.concat_tables(found).to_pylist():
        if row["metric_id"] == metric and row["dimension_set"]:
            named[row["metric_name"]] += row["count"]
    assert named.keys() == admitted | {f"{NAME}.{OTHER}"}
    assert named.total() == 4 * 1200
    for name in admitted:
        own = sum(row["count"] for row in whole.to_pylist() if row["metric_name"] == name)
        assert named[name] == 4 * own, "somebody was told another verdict"


KILLED = """
import sys
from analytics_pipeline import failpoints
from tests.integration.test_series import Ingest, typed
failpoints.arm(sys.argv[2])
Ingest(sys.argv[1]).land(typed("a", "b", "c", "d"), ahead=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", [FailPoint.IN_ADMISSION, FailPoint.BEFORE_COPY])
def test_sigkill_around_an_admission_costs_a_place_at_most(database: str, point: FailPoint) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, database, f"{point}:kill:1"],
        env=environment(), cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert taken(database) == (set() if point is FailPoint.IN_ADMISSION else {"a", "b", "c"})
    assert value(database, "SELECT count(*) FROM events") == 0
    ingest = Ingest(database)
    ingest.land(typed("d", "c"))
    ingest.lander.close()
    assert counted(database) == ({"d": 1, "c": 1} if point is FailPoint.IN_ADMISSION else {"c": 1, OTHER: 1})
    check_books(database)


@pytest.mark.parametrize("_life", range(2))
def test_a_random_life_with_tight_budgets(database: str, db: Connection, _life: int) -> None:
    """Two processes land in turn, hours are merged and recomputed in between: a recompute never finds a difference."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    landing = [Ingest(database, number) for number in range(2)]
    hours = [NOON, NOON + timedelta(hours=11), NOON + timedelta(hours=12)]
    for _ in range(14):
        hour = chance.choice(hours)
        match chance.choice(["land", "land", "merge", "recompute", "restart"]):
            case "land":
                landing[chance.randrange(2)].land(
                    [_any(chance, hour) for _ in range(chance.randrange(1, 30))], ahead=chance.random() < 0.5
                )
            case "merge":
                rollups.merge_hour(db, hour, run_id="test", max_batches=chance.choice([1, 500]))
            case "recompute":
                _recompute(database, hour, write=chance.random() < 0.7)
            case "restart":
                number = chance.randrange(2)
                landing[number].lander.close()
                landing[number] = Ingest(database, number)
    for one in landing:
        one.lander.close()
    for pending in rollups.pending_hours(db):
        rollups.merge_hour(db, pending.hour, run_id="test")
    for hour in hours:
        _recompute(database, hour, write=False)
    most = value(
        database,
        "SELECT max(places) FROM (SELECT count(*) AS places FROM metric_series GROUP BY day, metric_id, dimension_set)"
        " AS counted",
    )
    assert most == LIMIT
    assert value(database, "SELECT count(*) FROM metrics_live WHERE dimensions ->> 'event_type' = %s", OTHER)
    check_books(database)


def _any(chance: random.Random, hour: datetime) -> dict[str, Any]:
    kind = chance.choice(["order.filled", "order.filled", "order.placed", *(f"type-{n}" for n in range(6))])
    return event(
        chance.randrange(1_000_000_000),
        event_type=kind,
        timestamp=(hour + timedelta(seconds=chance.randrange(3600))).isoformat(),
        properties={
            "symbol": f"S{chance.randrange(7)}",
            "strategy_id": chance.choice([None, *(f"s{n}" for n in range(6))]),
            "price": chance.randrange(1, 10_000) / 100,
            "quantity": chance.randrange(1, 30),
            "latency_ms": chance.randrange(1000) / 7,
        },
    )


def _recompute(database: str, hour: datetime, *, write: bool) -> None:
    done = recompute.recompute_hour(database, hour, run_id="test", catalog=TIGHT, write=write)
    assert done.differences == []


def test_a_recompute_admits_where_a_day_has_no_verdicts(database: str, ingest: Ingest) -> None:
    """A metric that is new: its preview writes nothing, and the landings that follow keep to its verdicts."""
    edited = Catalog(
        tuple(replace(metric, series_limit=2) if metric.name == NAME else metric for metric in TIGHT.metrics)
    )
    metric_id = edited.by_name[NAME].metric_id
    places = "SELECT dimensions ->> 'event_type' FROM metric_series WHERE metric_id = %s ORDER BY 1"
    ingest.land(typed("d", "c", "b", "a", "a", "c"))
    before = value(database, "SELECT count(*) FROM metric_series")

    def done(write: bool) -> dict[str, int | None]:
        result = recompute.recompute_hour(
            database, NOON, run_id="test", catalog=edited, metric_ids=[metric_id], write=write
        )
        return {one.metric_name: one.count_after for one in result.differences if one.interval == "1h"}

    expected = {NAME: 6, f"{NAME}.a": 2, f"{NAME}.c": 2, f"{NAME}.{OTHER}": 2}
    assert done(write=False) == expected
    assert value(database, "SELECT count(*) FROM metric_series") == before
    assert done(write=True) == expected
    assert rows(database, places, metric_id) == [("a",), ("c",)]
    assert done(write=True) == {}
    newer = Ingest(database, 1, edited)
    newer.land(typed("b", "c", at=NOON + timedelta(minutes=5)))
    newer.lander.close()
    assert rows(database, places, metric_id) == [("a",), ("c",)]
    assert done(write=False) == {}


def test_without_postgres_nothing_is_decided(database: str) -> None:
    admission = Admission("host=127.0.0.1 port=1 connect_timeout=1")
    lander = Lander(database, name="landing-test", admission=admission)
    owner = claim(database, (SOURCE, 0))
    with pytest.raises(EnvironmentFault, match="Postgres cannot be reached"):
        land(lander, owner, [message(0, event(1))])
    lander.close()
    assert value(database, "SELECT count(*) FROM events") == 0


def test_memory_is_bounded_and_what_was_forgotten_is_asked_again(
    database: str, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "_MOST_REMEMBERED", 5)
    for _ in range(2):
        for day in (NOON - timedelta(days=1), NOON, NOON + timedelta(days=1) - timedelta(hours=11)):
            ingest.land(typed("a", "b", "c", "d", at=day))
            remembered = ingest.lander._admission._days
            assert len(remembered) == 1
            assert sum(len(one.taken) for one in remembered.values()) <= 5
    assert counted(database) == {"a": 2, "b": 2, "c": 2, OTHER: 2}


def test_rows_that_were_there_before_budgets_keep_their_places(postgres: Postgres, tmp_path: Path) -> None:
    for migration in available():
        if migration.version < 31:
            (tmp_path / f"{migration.name}.sql").write_text(migration.text)
    for database in fresh_database(postgres, "template1"):
        with connect(database, name="test") as connection:
            migrate(connection, tmp_path)
            connection.commit()
            ensure_range(connection, NOON, NOON)
            connection.execute(
                "INSERT INTO metric_aggregations (metric_name, interval, time_bucket, metric_id, dimension_set,"
                " dimensions) SELECT 'm', level, %s, 'm', CASE dims WHEN '{}' THEN '' ELSE 's' END, dims::jsonb"
                " FROM unnest('{1h,1d}'::text[]) AS level, unnest(%s::text[]) AS dims",
                (NOON.replace(hour=0), ["{}", '{"s": "a"}', '{"s": "b"}']),
            )
            for hour in (NOON, NOON + timedelta(hours=11)):
                connection.execute(
                    "INSERT INTO rollup_deltas (hour, batch_id, minute, metric_id, metric_name, dimension_set,"
                    """ dimensions, kind, count) VALUES (%s, 1, %s, 'm', 'm', 's', '{"s": "c"}', 'value', 1)""",
                    (hour, hour),
                )
            connection.commit()
            migrate(connection)
            connection.commit()
        found = rows(database, "SELECT day, metric_id, dimension_set, dimensions ->> 's' FROM metric_series")
        assert sorted(found) == [(NOON.date(), "m", "s", kind) for kind in "abc"]


def test_the_longest_values_of_two_dimensions_fit_every_index(db: Connection) -> None:
    chance = random.Random(1)

    def longest(*names: str) -> str:
        return json.dumps(
            {name: "".join(chr(chance.randint(0x10000, 0x1FFFF)) for _ in range(255)) for name in names}
        )

    admit = "INSERT INTO metric_series VALUES (current_date, %s, %s, %s)"
    settle = (
        "INSERT INTO metric_aggregations (metric_name, interval, time_bucket, metric_id, dimension_set, dimensions)"
        " VALUES (%s, '1d', date_trunc('day', now(), 'UTC'), %s, %s, %s)"
    )
    two, three = ("strategy_id", "account_id"), ("strategy_id", "account_id", "symbol")
    series = ["i" * 16, ",".join(two), longest(*two)]
    db.execute(admit, series)
    db.execute(settle, ["a." + "n" * 98, *series])
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        db.execute(admit, ["i" * 16, ",".join(three), longest(*three)])


def test_places_go_with_the_rows_of_their_day(database: str, db: Connection) -> None:
    [(oldest,)] = rows(
        database, "SELECT min(lower_bound) FROM time_partitions WHERE parent = 'metric_aggregations_1d'"
    )
    days = [(oldest + timedelta(days=number)).date() for number in (-400, -1, -1, 0)]
    for number, day in enumerate(days):
        db.execute("INSERT INTO metric_series VALUES (%s, 'm', 's', %s)", (day, f'{{"s":"{number}"}}'))
    assert series.count_expired(db) == 3
    assert series.remove_expired(db) == 3
    assert rows(database, "SELECT day FROM metric_series") == [(oldest.date(),)]
    assert series.count_expired(db) == series.remove_expired(db) == 0


def test_how_places_were_used(database: str, ingest: Ingest, db: Connection) -> None:
    ingest.land(typed("a", "b", "c", "d", "d"))
    rollups.merge_hour(db, NOON, run_id="test")
    ingest.land(typed("e", "d", at=NOON + timedelta(minutes=1)))
    ingest.land(typed("e", at=TODAY))
    by_type = sorted(
        used
        for used in series.usage(db, TIGHT.by_id, NOON.replace(hour=0))
        if used.metric_id == METRIC.metric_id
    )
    assert by_type == [
        Usage(METRIC.metric_id, "event_type", NOON.date(), 3, 7, 2),
        Usage(METRIC.metric_id, "event_type", TODAY.date(), 1, 1, 0),
    ]
    assert [
        used for used in series.usage(db, TIGHT.by_id, TODAY) if used.metric_id == METRIC.metric_id
    ] == by_type[1:]


def take_all_places(database: str, metric_name: str, dimension: str, prefix: str) -> None:
    """Of a metric with the budget that everybody's catalog has: the values are numbers behind a prefix."""
    with connect(database, name="test", autocommit=True) as connection:
        connection.execute(
            "INSERT INTO metric_series SELECT %s, %s, %s, jsonb_build_object(%s::text, %s || number)"
            " FROM generate_series(1, 1000) AS number",
            (NOON.date(), BUILT_IN.by_name[metric_name].metric_id, dimension, dimension, prefix),
        )


def test_the_api_shows_other_and_says_so(database: str) -> None:
    take_all_places(database, "trading.orders_placed", "symbol", "")
    ingest = Ingest(database, catalog=BUILT_IN)
    ingest.land(
        [
            event(number, timestamp=NOON.isoformat(), properties={"symbol": symbol})
            for number, symbol in enumerate(["7", "flood", "more"])
        ]
    )
    ingest.lander.close()
    with running(settings_for(database)) as api:

        def ask(**parameters: str) -> tuple[dict[str, float], list[str] | None]:
            answer = api.get(
                "/api/v1/metrics", metric_name="trading.orders_placed", start_time=iso(NOON),
                end_time=iso(NOON + timedelta(hours=1)), **parameters,
            )  # fmt: skip
            points = answer["result"]["data_points"]
            found = {point["dimensions"].get("symbol", ""): point["value"] for point in points}
            return found, answer.get("warnings")

        values, warnings = ask(group_by="symbol")
        assert values == {"7": 1, OTHER: 2}
        assert warnings == [
            "There were more values than the metric's budget of series: the rest is counted as __other__."
        ]
        assert ask() == ({"": 3}, None)


def test_a_total_is_exact_only_where_no_type_shares_a_place(database: str) -> None:
    take_all_places(database, "events.count", "event_type", "t")
    ingest = Ingest(database, catalog=BUILT_IN)
    types = ["t7", "rare", "rare", "more"]
    ingest.land(
        [event(number, timestamp=NOON.isoformat(), event_type=name) for number, name in enumerate(types)]
    )
    ingest.lander.close()
    with running(settings_for(database)) as api:

        def total(how: str, *names: str) -> dict[str, Any]:
            asked = {"start_time": iso(NOON), "end_time": iso(NOON + timedelta(hours=1)), "event_type": names}
            found: dict[str, Any] = api.get("/api/v1/events", limit=1, total=how, **asked)["total"]
            return found

        assert total("exact", "rare") == {"value": 2, "is_exact": True}
        assert total("exact", "t7") == {"value": 1, "is_exact": True}
        assert total("estimated", "rare")["is_exact"] is False
        assert total("estimated") == {"value": 4, "is_exact": True}


def test_other_is_written_as_other_dimensions_are(database: str, ingest: Ingest) -> None:
    """So that landings and recomputes, which read it from jsonb, name one series."""
    ingest.land(typed("a", "b", "c", "d"))
    [(text,)] = rows(
        database,
        "SELECT DISTINCT dimensions::text FROM rollup_deltas WHERE dimensions ->> 'event_type' = %s",
        OTHER,
    )
    assert text.replace(" ", "") == other_of("event_type")
