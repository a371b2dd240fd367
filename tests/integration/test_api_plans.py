"""`/api/v1/retention/plan` and `/api/v1/backfills`: what is told is what happens, and telling it changes nothing."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.storage import backfill, expired_rows, retention
from analytics_pipeline.storage.backfill_previews import preview
from analytics_pipeline.storage.connection import Connection, Lock, connect, connection
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.recompute import RecomputeResult
from analytics_pipeline.storage.rollups import hour_lock
from tests.integration.api_support import Api, iso, running, settings_for
from tests.integration.databases import database_copy
from tests.integration.landed import Event, land

PLAN, BACKFILLS = "/api/v1/retention/plan", "/api/v1/backfills"
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
KEPT = 3
NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)


def name(days_ago: int) -> str:
    return f"events_p{TODAY - days_ago * DAY:%Y%m%d}"


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    """Partitions of the last 8 days, with an event a day, none of them merged."""
    with database_copy(postgres, template_database, "api_plans") as copied:
        with connect(copied, name="test", autocommit=True) as opened:
            ensure_range(opened, NOW - 8 * DAY, NOW)
            land(opened, [Event("page.view", NOW - n * DAY, {"page": "/"}, "u1", "s1") for n in range(9)])
        yield copied


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    analytics = {"retention": {"raw_events": f"{KEPT}d"}}
    settings = settings_for(database, analytics=analytics, security={"rate_limit": {"enabled": False}})
    with running(settings, clock=lambda: NOW) as running_api:
        yield running_api


@pytest.fixture
def db(database: str) -> Iterator[Connection]:
    with connect(database, name="test", autocommit=True) as opened:
        yield opened


def raw(answer: Any) -> list[dict[str, Any]]:
    return [one for one in answer["partitions"] if one["parent"] == "events"]


def everything(db: Connection) -> list[Any]:
    tables = ("retention_state", "retention_policies", "retention_removals", "frozen_days", "time_partitions")
    found = [sorted(map(str, db.execute(f"SELECT * FROM {table}"))) for table in tables]
    return [*found, db.execute("SELECT count(*) FROM pending_batches").fetchall()]


def test_the_plan_tells_what_when_and_how_large(api: Api, db: Connection) -> None:
    before = everything(db)
    answer = api.get(PLAN)
    rules = api.services.settings.analytics.retention
    expected = retention.preview(db, rules, now=NOW)
    assert [(one["partition"], one["bytes"]) for one in answer["partitions"]] == [
        (one.partition, one.bytes) for one in expected
    ]
    assert (answer["count"], answer["bytes"]) == (len(expected), sum(one.bytes or 0 for one in expected))
    assert [one["partition"] for one in raw(answer)] == [name(n) for n in range(8, KEPT, -1)]
    for one in raw(answer):
        assert (one["kind"], one["is_archived_first"], one["step"], one["pending_hours"]) == (
            "raw",
            False,
            None,
            1,
        )
        assert datetime.fromisoformat(one["due_at"]) == datetime.fromisoformat(one["upper"]) + KEPT * DAY
        assert datetime.fromisoformat(one["due_at"]) <= NOW
        assert one["blocked_by"] == []
    assert answer["raw_floor"] == iso(TODAY - KEPT * DAY)
    assert answer["blocked_by"] == []
    assert everything(db) == before


def test_a_plan_of_later_has_what_is_due_by_then(api: Api) -> None:
    later = api.get(PLAN, at=iso(NOW + 2 * DAY))
    assert [one["partition"] for one in raw(later)] == [name(n) for n in range(8, KEPT - 2, -1)]
    assert later["raw_floor"] == iso(TODAY - (KEPT - 2) * DAY)
    far = api.get(PLAN, at="2199-01-01T00:00:00Z")
    kinds = {one["kind"] for one in far["partitions"]}
    assert kinds == {"raw", "rollup", "mart"}
    assert all(one["due_at"] >= iso(TODAY - 8 * DAY) for one in far["partitions"])


def test_what_is_in_the_way_is_told(api: Api, db: Connection, database: str) -> None:
    busy = TODAY - 6 * DAY + timedelta(hours=7)
    with connection(database, name="test", autocommit=True) as other, hour_lock(other, busy, wait=True):
        other.execute("SELECT pg_advisory_lock(%s, 0)", (Lock.RETENTION,))
        answer = api.get(PLAN)
        blocked = {one["partition"]: one["blocked_by"] for one in raw(answer) if one["blocked_by"]}
        assert blocked == {name(6): ["one of its hours is being merged or recomputed"]}
        assert answer["blocked_by"] == ["a run is removing expired partitions"]
    settings = settings_for(database, analytics={"retention": {"raw_events": "3d", "cleanup_enabled": False}})
    with running(settings, clock=lambda: NOW) as off:
        assert off.get(PLAN)["blocked_by"] == ["analytics.retention.cleanup_enabled is false"]


def test_an_archive_goes_first_and_an_interrupted_removal_is_told(
    api: Api, db: Connection, database: str
) -> None:
    db.execute(f"ALTER TABLE events DETACH PARTITION {name(8)}")
    db.execute(
        "INSERT INTO retention_removals (partition, parent, lower_bound, upper_bound, state, bytes)"
        " VALUES (%s, 'events', %s, %s, 'detached', 4711)",
        (name(8), TODAY - 8 * DAY, TODAY - 7 * DAY),
    )
    analytics = {"retention": {"raw_events": "3d", "archive_uri": "file:///nowhere"}}
    with running(settings_for(database, analytics=analytics), clock=lambda: NOW) as archiving:
        answer = archiving.get(PLAN)
    first, second, *_ = raw(answer)
    assert (first["partition"], first["step"], first["bytes"], first["pending_hours"]) == (
        name(8), "detached", 4711, 0,
    )  # fmt: skip
    assert (second["partition"], second["step"], second["is_archived_first"]) == (name(7), None, True)
    assert "nowhere" not in json.dumps(answer)
    db.execute("DELETE FROM retention_removals")
    db.execute(
        f"ALTER TABLE events ATTACH PARTITION {name(8)} FOR VALUES FROM ('{TODAY - 8 * DAY}') TO ('{TODAY - 7 * DAY}')"
    )


def test_rows_are_counted_when_asked_for(api: Api, db: Connection) -> None:
    db.execute(
        "INSERT INTO metric_restatements (restated_at, reason, run_id, interval, time_bucket, revision, metric_id,"
        " metric_name, new_count) VALUES ('2020-01-01+00', 'late', 'r', '1h', '2020-01-01+00', 2, 'm', 'm', 1)"
    )
    rules = api.services.settings.analytics.retention
    expected = expired_rows.preview_expired_rows(db, rules, now=NOW)
    assert "rows" not in api.get(PLAN)
    rows = api.get(PLAN, rows="true")["rows"]
    assert (rows["restatements"], rows["ledger_lines"]) == (1, expected.ledger_lines)
    assert api.get(PLAN, expect=400, rows="true", at=iso(NOW + DAY))["parameter"] == "rows"


@pytest.mark.parametrize(
    "query", ["at=2020-01-01T00:00:00Z", "at=x", "at=2201-01-01T00:00:00Z", "rows=1", "at=a&at=b"]
)
def test_bad_parameters_are_refused(api: Api, query: str) -> None:
    assert api.request("GET", f"{PLAN}?{query}").status_code == 400


def test_backfills_that_have_not_ended_are_listed(api: Api, db: Connection, database: str) -> None:
    assert api.get(BACKFILLS) == {"backfills": [], "previews": [], "recomputing": []}
    hours = [TODAY - DAY + timedelta(hours=n) for n in range(3)]
    metric = BUILT_IN.by_name["trading.total_volume"]
    one = backfill.plan(db, hours, metric_ids=[metric.metric_id])
    every = backfill.plan(db, hours)
    other = backfill.plan(db, hours, metric_ids=["of an earlier definition"])
    mark = "INSERT INTO backfill_progress (metric_set, hour, run_id, done_at) VALUES (%s, %s, %s, %s)"
    for number, (planned, count) in enumerate(((one, 2), (every, 3), (other, 1))):
        for hour in hours[:count]:
            db.execute(mark, (planned.metric_set, hour, f"run-{number}", NOW - timedelta(hours=number + 1)))
    found = api.get(BACKFILLS)["backfills"]
    assert [(one["metrics"], one["is_everything"], one["hours"], one["state"]) for one in found] == [
        (["trading.total_volume"], False, 2, "interrupted"), (None, True, 3, "interrupted"),
        (None, False, 1, "interrupted"),
    ]  # fmt: skip
    assert {(one["total_hours"], one["percent"]) for one in found} == {(None, None)}, "nobody planned them"
    first = found[0]
    assert (first["first"], first["last"], first["runs"]) == (iso(hours[0]), iso(hours[2]), ["run-0"])
    assert first["given_up_at"] == iso(NOW - timedelta(hours=1) + timedelta(days=30))

    with connection(database, name="backfill"):
        assert {one["state"] for one in api.get(BACKFILLS)["backfills"]} == {"interrupted"}, "it came later"
        db.execute(mark, (one.metric_set, hours[2], "run-0", datetime.now(UTC) + timedelta(seconds=1)))
        states = [one["state"] for one in api.get(BACKFILLS)["backfills"]]
        assert states == ["running", "interrupted", "interrupted"]
    db.execute("DELETE FROM backfill_progress")


@pytest.mark.slow
def test_a_backfill_says_how_much_of_it_is_done(api: Api, db: Connection, database: str) -> None:
    hours = [TODAY - DAY + timedelta(hours=n) for n in range(4)]
    ids = [BUILT_IN.by_name["trading.total_volume"].metric_id]
    far = [hour - 7 * DAY for hour in hours[:2]]
    land(db, [Event("page.view", hour) for hour in (*hours, *far)])
    began: list[Any] = []
    for some in (hours, far):  # of the same metrics: what both have to do is one number
        planned = backfill.plan(db, some, metric_ids=ids)
        began.append(backfill.carry_out(db, database, planned, run_id="r", before_hour=lambda: None))

    def told() -> list[tuple[Any, ...]]:
        return [(one["hours"], one["total_hours"], one["percent"]) for one in api.get(BACKFILLS)["backfills"]]

    next(began[0])
    assert told() == [(1, 4, 25.0)]
    next(began[1])
    assert told() == [(2, 6, 33.3)]
    began[0].close()
    again = backfill.plan(db, hours, metric_ids=ids)
    assert (len(again.hours), again.done) == (3, 1)
    resumed = backfill.carry_out(db, database, again, run_id="r", before_hour=lambda: None)
    next(resumed)
    assert told() == [(3, 6, 50.0)]
    list(resumed)
    assert told() == [(1, 2, 50.0)], "one has ended"
    list(began[1])
    assert (told(), db.execute("SELECT count(*) FROM backfill_plans").fetchone()) == ([], (0,))


def found_in(db: Connection, hours: list[datetime]) -> int:
    counted = "SELECT count(*)::int FROM events WHERE timestamp >= %s AND timestamp < %s"
    [[count]] = db.execute(counted, (hours[0], hours[-1] + HOUR)).fetchall()
    return int(count)


@pytest.mark.slow
def test_a_preview_is_followed_and_leaves_what_it_found(api: Api, db: Connection, database: str) -> None:
    last = (NOW - DAY).replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=1), last]
    land(db, [Event("page.view", hours[0])])
    metric = BUILT_IN.by_name["events.count"]

    def begin(run_id: str, by: Connection, ids: list[str] | None = None) -> Iterator[RecomputeResult]:
        planned = backfill.plan(db, hours, metric_ids=ids, restart=True)
        return preview(by, database, planned, run_id=run_id, before_hour=lambda: None)

    def told(run_id: str) -> Any:
        [found] = [one for one in api.get(BACKFILLS)["previews"] if one["run_id"] == run_id]
        return found

    same = begin("same", db)
    next(same)
    first = told("same")
    assert (first["state"], first["hours"], first["percent"], first["ended_at"]) == ("running", 1, 50.0, None)
    assert (first["metrics"], first["first"], first["last"]) == (None, iso(hours[0]), iso(last + HOUR))
    list(same)
    done = told("same")
    assert (done["state"], done["hours"], done["percent"]) == ("completed", 2, 100.0)
    assert (done["events"], done["differences"], done["changes"]) == (found_in(db, hours), {}, [])

    db.execute("DELETE FROM rollup_deltas WHERE hour = %s AND metric_id = %s", (last, metric.metric_id))
    results = list(begin("differs", db, [metric.metric_id]))
    found = told("differs")
    assert found["metrics"] == ["events.count"]
    assert found["differences"] == Counter(one.interval for result in results for one in result.differences)
    total = next(one for one in found["changes"] if not one["dimensions"])
    assert (total["interval"], total["time_bucket"], total["metric_name"]) == (
        "1h",
        iso(last),
        "events.count",
    )
    events = found_in(db, [last])  # more than one if an earlier test has written into this hour
    assert (total["old"], total["new"], total["difference"]) == (None, events, events)
    assert {one["interval"] for one in found["changes"]} == {"1h"}

    with connection(database, name="backfill", autocommit=True) as killed:
        next(begin("killed", killed))
    assert told("killed")["state"] == "interrupted"


def test_an_hour_that_is_being_recomputed_is_told_and_a_merge_is_not(api: Api, database: str) -> None:
    hour = TODAY - DAY + timedelta(hours=4)
    with (
        connection(database, name="recompute", autocommit=True) as worker,
        hour_lock(worker, hour, wait=True),
    ):
        [found] = api.get(BACKFILLS)["recomputing"]
        assert found["hour"] == iso(hour)
    with connection(database, name="merge", autocommit=True) as worker, hour_lock(worker, hour, wait=True):
        assert api.get(BACKFILLS)["recomputing"] == []


@pytest.mark.slow
def test_what_the_plan_tells_is_what_a_run_removes(api: Api, db: Connection) -> None:
    told = [one["partition"] for one in api.get(PLAN)["partitions"]]
    retention.write_policies(db, api.services.settings.analytics.retention)
    done = retention.remove_expired(db, now=NOW, run_id="test")
    assert [(one.partition, one.action) for one in done] == [(each, "dropped") for each in told]
    assert api.get(PLAN)["partitions"] == []
