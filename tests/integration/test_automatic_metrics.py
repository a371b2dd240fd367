"""Metrics that definitions bring along: computed by landings, recomputed from raw, answered by the API."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from analytics_pipeline.ingest.listener import Listener
from analytics_pipeline.storage import backfill
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.definitions import load_catalog, put_definition, set_active
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.recompute import recompute_hour
from analytics_pipeline.storage.rollups import merge_hour, pending_hours
from tests.integration.api_support import Api, iso, running, settings_for
from tests.integration.landing_rig import claim, event, land, message, rows

SIGNAL = {"properties": {"strength": {"type": "number"}, "note": {"type": "string"}}}
NAME = "custom.my.signal.strength"


@pytest.fixture
def api(database: str) -> Iterator[Api]:
    with running(settings_for(database)) as running_api:
        yield running_api


def signal(number: int, strength: object) -> dict[str, object]:
    at = datetime.now(UTC) - timedelta(seconds=1) + timedelta(microseconds=number)
    return event(number, event_type="my.signal", properties={"strength": strength}, timestamp=at.isoformat())


def points(api: Api, **more: str) -> list[float]:
    end = datetime.now(UTC) + timedelta(minutes=1)
    asked = {"metric_name": NAME, "start_time": iso(end - timedelta(days=2)), "end_time": iso(end)}
    return [
        point["value"]
        for point in api.get("/api/v1/metrics", **asked, interval="1d", **more)["result"]["data_points"]
    ]


@pytest.mark.slow
def test_a_definition_brings_a_metric_along(database: str, db: Connection, api: Api) -> None:
    listener = Listener(database, is_custom_enabled=True)
    lander = Lander(database, name="landing-test", catalog=lambda: listener.catalog)
    owner = claim(database)
    _, owner = land(lander, owner, [message(0, signal(0, 9))])

    put_definition(db, "my.signal", SIGNAL)
    listener.load(db)
    _, owner = land(
        lander, owner, [message(1, signal(1, 0.5)), message(2, signal(2, 2.5)), message(3, event(3))]
    )
    api.soon(lambda: sum(points(api, aggregation="sum")), 3.0)
    assert sum(points(api, aggregation="count")) == 2
    dashboard = api.get("/api/v1/dashboard/metrics")
    assert dashboard["custom_metrics"] == {NAME: 1.5}

    for pending in pending_hours(db):
        merge_hour(db, pending.hour, run_id="test")
    assert sum(points(api, aggregation="sum")) == 3.0
    catalog = load_catalog(db, is_custom_enabled=True)
    for [hour] in rows(database, "SELECT DISTINCT date_trunc('hour', timestamp) FROM events"):
        recompute_hour(database, hour, run_id="backfill", catalog=catalog)
    # The one from before the definition is read from raw.
    api.soon(lambda: sum(points(api, aggregation="sum")), 12.0)

    set_active(db, "my.signal", False)
    listener.load(db)
    _, owner = land(lander, owner, [message(4, signal(4, 100))])
    assert rows(database, "SELECT count(*) FROM rollup_deltas WHERE metric_name = %s", NAME) == [(0,)]
    api.soon(lambda: points(api), [])
    assert load_catalog(db, is_custom_enabled=True).automatic == ()
    lander.close()


@pytest.mark.slow
def test_an_ingest_that_does_not_know_it_yet_leaves_it_to_a_backfill(
    database: str, db: Connection, api: Api
) -> None:
    """A definition reaches one process of a fleet before another: what that one lands is noted, and nothing is shown
    twice or for good too small."""
    knows, knows_not = (Listener(database, is_custom_enabled=True) for _ in range(2))
    knows_not.load(db)
    put_definition(db, "my.signal", SIGNAL)
    knows.load(db)
    assert NAME in knows.catalog.by_name
    assert NAME not in knows_not.catalog.by_name
    metric_id = knows.catalog.by_name[NAME].metric_id
    gaps = "SELECT count(*) FROM metric_gaps WHERE metric_id = %s"
    deltas = "SELECT sum(count)::bigint FROM rollup_deltas WHERE metric_id = %s AND dimension_set = ''"

    first = Lander(database, name="landing-knows", catalog=lambda: knows.catalog)
    second = Lander(database, name="landing-knows-not", catalog=lambda: knows_not.catalog)
    owner, other = claim(database), claim(database, ("order.events", 1))
    _, owner = land(first, owner, [message(0, signal(0, 1.5))])
    assert rows(database, gaps, metric_id) == [(0,)]
    _, other = land(second, other, [message(0, event(1))], partition=1)  # of another type: nothing is lacking
    assert rows(database, gaps, metric_id) == [(0,)]
    _, other = land(second, other, [message(1, signal(2, 4)), message(2, signal(3, 8))], partition=1)
    assert rows(database, gaps, metric_id) != [(0,)]
    assert rows(database, deltas, metric_id) == [(1,)]
    for pending in pending_hours(db):
        merge_hour(db, pending.hour, run_id="test")
    api.soon(lambda: sum(points(api, aggregation="sum")), 1.5)

    # The process that lacked it takes it up by itself, and the past comes from raw events.
    knows_not.load(db)
    _, other = land(second, other, [message(3, signal(4, 16))], partition=1)
    assert rows(database, deltas, metric_id) == [(1,)]
    catalog = load_catalog(db, is_custom_enabled=True)
    hours = [
        hour
        for [hour] in rows(database, "SELECT DISTINCT date_trunc('hour', timestamp) FROM events ORDER BY 1")
    ]
    planned = backfill.plan(db, hours, catalog=catalog, metric_ids=[metric_id])
    list(backfill.carry_out(db, database, planned, run_id="backfill", before_hour=lambda: None))
    assert rows(database, gaps, metric_id) == [(0,)]
    api.soon(lambda: sum(points(api, aggregation="sum")), 29.5)
    assert sum(points(api, aggregation="count")) == 4
    first.close()
    second.close()
