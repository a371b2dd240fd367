"""A name of a metric is answered by one definition at a time: through edits, mixed fleets, rollbacks and backfills."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog, Metric
from analytics_pipeline.storage import backfill, metric_versions
from analytics_pipeline.storage.connection import Connection, Lock, connect
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.recompute import recompute_hour
from analytics_pipeline.storage.rollups import merge_hour, pending_hours
from tests.integration.api_support import iso, plain, running, settings_for
from tests.integration.landing_rig import claim, event, land, message, rows, value
from tests.waiting import wait_for

NAME = "trading.total_volume"
OLD = BUILT_IN
EDITED = replace(BUILT_IN.by_name[NAME], value="quantity")
NEW = Catalog(tuple(EDITED if metric.name == NAME else metric for metric in BUILT_IN.metrics))
FEWER = Catalog(
    tuple(
        replace(metric, event_types=("order.filled",)) if metric.name == "events.count" else metric
        for metric in NEW.metrics
    )
)
BEFORE, AFTER = OLD.by_name[NAME].metric_id, EDITED.metric_id
FLOOR = "SELECT raw_floor FROM retention_state"
PAST = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
"""A whole hour with another behind it; not longer ago, because each hour since is recomputed."""


class Fleet:
    """Ingest processes of an old and a new release, each with a partition of its own."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.number = 0
        self._landers: dict[int, Any] = {}

    def land(self, catalog: Catalog, at: datetime, event_type: str = "order.filled") -> None:
        """One event: price 10, quantity 2."""
        self.number += 1
        partition = (OLD, NEW, FEWER).index(catalog)
        if partition not in self._landers:
            lander = Lander(self.database, name=f"landing-{partition}", catalog=lambda: catalog)
            self._landers[partition] = [lander, claim(self.database, ("order.events", partition))]
        lander, owner = self._landers[partition]
        sent = event(
            self.number,
            event_type=event_type,
            properties={"price": 10, "quantity": 2},
            timestamp=at.isoformat(),
        )
        done = land(lander, owner, [message(owner.next_offset, sent)], partition=partition)
        self._landers[partition][1] = done[1]

    def close(self) -> None:
        for lander, _ in self._landers.values():
            lander.close()


@pytest.fixture
def fleet(database: str) -> Iterator[Fleet]:
    made = Fleet(database)
    yield made
    made.close()


def served(database: str, interval: str = "1h") -> dict[datetime, list[tuple[str, float]]]:
    """Which definition answers each bucket, and what it says."""
    found: dict[datetime, list[tuple[str, float]]] = {}
    for at, metric_id, total in rows(
        database,
        "SELECT time_bucket, metric_id, sum FROM metrics_live"
        " WHERE metric_name = %s AND interval = %s AND dimension_set = '' ORDER BY 1, 2",
        NAME,
        interval,
    ):
        found.setdefault(at, []).append(("old" if metric_id == BEFORE else "new", total))
    return found


def gaps(database: str) -> set[tuple[str, datetime]]:
    return set(rows(database, "SELECT metric_id, hour FROM metric_gaps"))


def register(db: Connection, catalog: Catalog) -> list[str]:
    return metric_versions.register(db, catalog.metrics)


def run_backfill(db: Connection, database: str, catalog: Catalog, hours: list[datetime]) -> list[str]:
    planned = backfill.plan(db, hours, catalog=catalog, metric_ids=[catalog.by_name[NAME].metric_id])
    switched: list[str] = []
    list(
        backfill.carry_out(
            db,
            database,
            planned,
            run_id="b",
            before_hour=lambda: None,
            switched=lambda found, _first: switched.extend(found),
        )
    )
    return switched


def hours_until_now() -> list[datetime]:
    return backfill.whole_hours(PAST, datetime.now(UTC) + timedelta(minutes=2))


def settle(db: Connection) -> None:
    for pending in pending_hours(db):
        merge_hour(db, pending.hour, run_id="test")


def test_in_an_empty_database_metrics_are_there_from_the_beginning(database: str, db: Connection) -> None:
    assert sorted(register(db, OLD)) == sorted(OLD.by_name)
    assert register(db, OLD) == []
    assert rows(database, f"SELECT DISTINCT available_from = ({FLOOR}) FROM metric_versions") == [(True,)]


@pytest.mark.slow
def test_an_edited_metric_before_during_and_after_its_backfill(
    database: str, db: Connection, fleet: Fleet
) -> None:
    register(db, OLD)
    fleet.land(OLD, PAST)
    fleet.land(OLD, PAST + timedelta(hours=1))
    settle(db)
    assert register(db, NEW) == [NAME]
    following = metric_versions.available_from(db, [AFTER])
    assert following is not None
    fleet.land(NEW, following)
    before = {PAST: [("old", 20.0)], PAST + timedelta(hours=1): [("old", 20.0)]}
    assert {at: found for at, found in served(database).items() if at in before} == before
    assert served(database, "1m")[following] == [("new", 2.0)]

    recompute_hour(database, PAST, run_id="b", catalog=NEW, metric_ids=[AFTER])
    assert {at: found for at, found in served(database).items() if at in before} == before

    assert run_backfill(db, database, NEW, [PAST]) == []  # a hole would be left behind it
    assert served(database)[PAST] == [("old", 20.0)]
    hours = backfill.whole_hours(PAST, max(hours_until_now()[-1], following) + timedelta(seconds=1))
    assert run_backfill(db, database, NEW, hours) == [NAME]
    found = served(database)
    assert [found[at] for at in before] == [[("new", 2.0)], [("new", 2.0)]]
    assert all(len(one) == 1 for level in ("1m", "1h", "1d") for one in served(database, level).values())


@pytest.mark.slow
def test_a_preview_of_an_edited_metric_shows_what_readers_will_see_change(
    database: str, db: Connection, fleet: Fleet
) -> None:
    """Also before the edited definition is registered, and while deltas of the old one are pending."""
    register(db, OLD)
    fleet.land(OLD, PAST)
    settle(db)
    fleet.land(OLD, PAST)

    def totals(catalog: Catalog, metric: Metric) -> set[tuple[str, float | None, float | None]]:
        done = recompute_hour(
            database, PAST, run_id="p", catalog=catalog, metric_ids=[metric.metric_id], write=False
        )
        return {
            (one.interval, one.value_before, one.value_after)
            for one in done.differences
            if one.dimensions == "{}"
        }

    expected = {(level, 40.0, 4.0) for level in ("1m", "5m", "15m", "1h")}
    assert totals(NEW, EDITED) == expected
    register(db, NEW)
    assert totals(NEW, EDITED) == expected
    as_before = replace(BUILT_IN.by_name[NAME], series_limit=17)
    assert as_before.metric_id not in {BEFORE, AFTER}
    assert totals(Catalog((as_before,)), as_before) == set()


@pytest.mark.slow
def test_an_old_ingest_beside_a_new_one(database: str, db: Connection, fleet: Fleet) -> None:
    register(db, OLD)
    fleet.land(OLD, PAST)
    register(db, NEW)
    now = metric_versions.available_from(db, [AFTER])
    assert now is not None
    hour = now.replace(minute=0)
    fleet.land(NEW, now)
    assert gaps(database) == (
        {(BEFORE, hour)} if now.minute else set()
    )  # the old one still answers for the hour
    fleet.land(OLD, now)
    fleet.land(OLD, now, "order.placed")  # does not count for what is lacking
    assert (AFTER, hour) in gaps(database)
    assert served(database, "1m")[now] == [("new", 2.0)]

    # The switch needs the list empty: a backfill reads what the old ingest left out.
    hours = backfill.whole_hours(PAST, now + timedelta(seconds=1))
    assert run_backfill(db, database, NEW, hours) == [NAME]
    assert all(metric_id != AFTER for metric_id, _ in gaps(database))
    assert served(database, "1m")[now] == [("new", 4.0)]


@pytest.mark.slow
def test_what_lands_in_an_hour_that_a_backfill_has_passed_is_not_left_out(
    database: str, db: Connection, fleet: Fleet
) -> None:
    """It was empty when it was looked at: what lands then is computed by the new ingest, and noted by the old one."""
    register(db, OLD)
    fleet.land(OLD, PAST + timedelta(hours=1))
    register(db, NEW)
    following = metric_versions.available_from(db, [AFTER])
    assert following is not None
    hours = backfill.whole_hours(PAST, following + timedelta(seconds=1))
    planned = backfill.plan(db, hours, catalog=NEW, metric_ids=[AFTER])
    done = []
    for result in backfill.carry_out(db, database, planned, run_id="b", before_hour=lambda: None):
        if not done:
            assert (result.hour, result.is_empty) == (PAST, True)
            fleet.land(NEW, PAST)
            fleet.land(OLD, PAST)
            assert (AFTER, PAST) in gaps(database)
        done.append(result.hour)
    assert done == [*hours, PAST]
    assert {at: served(database)[at] for at in hours[:2]} == {
        PAST: [("new", 4.0)],
        hours[1]: [("new", 2.0)],
    }
    assert all(metric_id != AFTER for metric_id, _ in gaps(database))


def test_late_events_of_a_day_whose_start_an_earlier_definition_answers(
    database: str, db: Connection, fleet: Fleet
) -> None:
    """A backfill from noon on leaves that day to the definition before it, which sees no later landings."""
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
    register(db, OLD)
    fleet.land(OLD, noon - timedelta(hours=1))
    fleet.land(OLD, noon + timedelta(hours=1))
    register(db, NEW)
    switched = "UPDATE metric_versions SET available_from = %s WHERE metric_id = %s"
    db.execute(switched, (noon, AFTER))  # as if all hours since had been backfilled
    fleet.land(NEW, noon + timedelta(hours=1))
    assert served(database, "1d")[noon.replace(hour=0)] == [("old", 40.0)]
    assert gaps(database) == {(BEFORE, noon + timedelta(hours=1))}
    fleet.land(NEW, datetime.now(UTC) - timedelta(seconds=1))  # today is all the new one's
    assert len(gaps(database)) == 1


@pytest.mark.slow
def test_a_gap_that_a_landing_notes_during_a_recompute_stays(
    database: str, db: Connection, fleet: Fleet
) -> None:
    register(db, OLD)
    register(db, NEW)
    fleet.land(OLD, PAST)

    def meanwhile(_connection: Connection) -> None:
        fleet.land(OLD, PAST + timedelta(minutes=1))

    recompute_hour(database, PAST, run_id="b", catalog=NEW, metric_ids=[AFTER], in_transaction=meanwhile)
    assert gaps(database) == {(AFTER, PAST)}
    recompute_hour(database, PAST, run_id="b", catalog=NEW, metric_ids=[AFTER])
    assert gaps(database) == set()
    assert (
        value(
            database,
            "SELECT sum(sum_exact) FROM metric_aggregations"
            " WHERE metric_id = %s AND interval = '1d' AND dimension_set = ''",
            AFTER,
        )
        == 4
    )


def test_a_metric_is_registered_while_no_landing_is_in_flight(database: str, db: Connection) -> None:
    register(db, OLD)
    with connect(database, name="landing-hung") as landing:
        landing.execute("SELECT pg_advisory_xact_lock_shared(%s, 0)", (Lock.FLOOR,))
        thread = threading.Thread(target=register, args=(db, NEW))
        thread.start()
        with connect(database, name="watch", autocommit=True) as watch:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            wait_for(lambda: watch.execute(waiting).fetchone() == (1,))
            current = "SELECT metric_id FROM metric_versions WHERE metric_name = %s AND superseded_at IS NULL"
            assert watch.execute(current, (NAME,)).fetchall() == [(BEFORE,)]
            landing.rollback()
            thread.join(20)
            assert watch.execute(current, (NAME,)).fetchall() == [(AFTER,)]


@pytest.mark.slow
def test_a_deployment_that_is_rolled_back(database: str, db: Connection, fleet: Fleet) -> None:
    register(db, OLD)
    fleet.land(OLD, PAST)
    register(db, NEW)
    fleet.land(NEW, PAST)
    assert gaps(database) == {(BEFORE, PAST)}  # the old one answers for that time, and did not see it
    assert register(db, OLD) == [NAME]
    again = metric_versions.available_from(db, [BEFORE])
    assert again is not None
    fleet.land(OLD, again)
    assert served(database, "1m")[again] == [("old", 20.0)]
    assert served(database)[PAST] == [("old", 20.0)]
    hours = backfill.whole_hours(PAST, again + timedelta(seconds=1))
    assert run_backfill(db, database, OLD, hours) == [NAME]
    assert served(database)[PAST] == [("old", 40.0)]
    assert all(metric_id != BEFORE for metric_id, _ in gaps(database))


def test_a_new_metric_mid_stream(database: str, db: Connection, fleet: Fleet) -> None:
    """An automatic one is registered the same way; without events of its type it is complete from the beginning."""
    register(db, OLD)
    fleet.land(OLD, PAST)
    prices = replace(EDITED, name="test.price", value="price")
    never = replace(EDITED, name="test.never", event_types=("my.signal",))
    more = Catalog((*OLD.metrics, prices, never))
    assert register(db, more) == ["test.price", "test.never"]
    begin = dict(
        rows(
            database,
            "SELECT metric_name, available_from FROM metric_versions WHERE metric_name LIKE 'test.%%'",
        )
    )
    assert begin["test.price"] > datetime.now(UTC) - timedelta(seconds=1)
    assert begin["test.never"] == value(database, FLOOR)
    fleet.land(OLD, PAST + timedelta(hours=1))
    assert gaps(database) == {(prices.metric_id, PAST + timedelta(hours=1))}
    fleet.land(OLD, PAST, "my.signal")
    assert (never.metric_id, PAST) in gaps(database)


def test_the_api_says_which_definition_a_point_is_from(database: str, db: Connection, fleet: Fleet) -> None:
    def points(interval: str, at: datetime) -> list[dict[str, Any]]:
        answer = api.get(
            "/api/v1/metrics", metric_name=NAME, interval=interval, start_time=iso(at),
            end_time=iso(at + timedelta(minutes=1)),
        )  # fmt: skip
        return [
            {key: found for key, found in point.items() if key not in ("timestamp", "dimensions")}
            for point in plain(answer["result"]["data_points"])
        ]

    register(db, OLD)
    fleet.land(OLD, PAST)
    with running(settings_for(database)) as api:
        api.soon(lambda: points("1h", PAST), [{"value": 20.0}])
        register(db, NEW)
        api.soon(lambda: points("1h", PAST), [{"value": 20.0, "predecessor": True}])
        following = metric_versions.available_from(db, [AFTER])
        assert following is not None
        fleet.land(NEW, following)
        api.soon(lambda: points("1m", following), [{"value": 2.0}])
        fleet.land(OLD, following)
        api.soon(lambda: points("1m", following), [{"value": 2.0, "incomplete": True}])
        fleet.land(NEW, PAST)  # late, and the definition that answers for it does not see it
        api.soon(lambda: points("1h", PAST), [{"value": 20.0, "incomplete": True, "predecessor": True}])

        hours = backfill.whole_hours(PAST, following + timedelta(seconds=1))
        assert run_backfill(db, database, NEW, hours) == [NAME]
        api.soon(lambda: points("1h", PAST), [{"value": 4.0}])
        api.soon(lambda: points("1m", following), [{"value": 4.0}])


@pytest.mark.slow
def test_dashboard_and_statistics_read_each_minute_from_the_definition_that_answers_for_it(
    database: str, db: Connection, fleet: Fleet
) -> None:
    now = datetime.now(UTC)

    def shown() -> tuple[float, int, int]:
        dashboard = api.get("/api/v1/dashboard/metrics")
        counted = api.get("/api/v1/events/stats", start_time=iso(now - timedelta(hours=40)))
        return (
            dashboard["total_volume"],
            dashboard["orders_filled"],
            counted["by_type"].get("order.filled", 0),
        )

    register(db, OLD)
    fleet.land(OLD, now - timedelta(hours=30))
    fleet.land(OLD, now - timedelta(minutes=20))
    with running(settings_for(database)) as api:
        api.soon(shown, (20.0, 1, 2))
        register(db, FEWER)
        switched = (now - timedelta(minutes=15)).replace(second=0, microsecond=0)
        db.execute(
            "UPDATE metric_versions SET available_from = %s"
            " WHERE superseded_at IS NULL AND metric_name IN ('events.count', 'trading.total_volume')",
            (switched,),
        )
        fleet.land(FEWER, now - timedelta(minutes=10))
        api.soon(shown, (22.0, 2, 3))
        settle(db)
        api.soon(shown, (22.0, 2, 3))
