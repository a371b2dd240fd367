"""Some minutes of a large hour are compared with raw events, and every other level of the hour with its minutes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID
from analytics_pipeline.storage import rollups
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.recompute import RecomputeResult
from analytics_pipeline.storage.spot_check import compare_minutes
from tests.integration.rollup_data import land
from tests.unit.rollups.events import batch

HOUR = datetime.now(UTC).replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=1)
FIRST, LAST = HOUR + timedelta(minutes=20), HOUR + timedelta(minutes=23)
INSIDE, OUTSIDE = HOUR + timedelta(minutes=21), HOUR + timedelta(minutes=40)


@pytest.fixture
def db(database: str) -> Iterator[Connection]:
    """Events in three minutes of the window and in three outside, half of them merged, half pending."""
    with connect(database, name="test", autocommit=True) as connection:
        for number, start in enumerate((INSIDE, OUTSIDE)):
            land(connection, batch(40, seed=number, start=start), number + 1)
        rollups.merge_hour(connection, HOUR, run_id="run")
        for number, start in enumerate((INSIDE, OUTSIDE)):
            land(connection, batch(40, seed=number + 9, start=start), number + 11)
        yield connection


def compared(database: str) -> RecomputeResult:
    return compare_minutes(database, FIRST, LAST, catalog=BUILT_IN, metric_ids=[*BUILT_IN.by_id, REGISTER_ID])


def levels(result: RecomputeResult) -> set[str]:
    return {difference.interval for difference in result.differences}


def test_settled_and_pending_together_are_what_raw_events_give(db, database):
    before = db.execute("SELECT count(*), sum(count) FROM metrics_live").fetchone()
    result = compared(database)
    assert result.differences == []
    assert (result.events,) == db.execute(
        "SELECT count(*) FROM events WHERE timestamp >= %s AND timestamp < %s", (FIRST, LAST)
    ).fetchone()
    assert result.events > 0
    assert db.execute("SELECT count(*), sum(count) FROM metrics_live").fetchone() == before


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (
            f"DELETE FROM events WHERE id = (SELECT min(id::text)::uuid FROM events WHERE timestamp < '{LAST}')",
            {"1m"},
        ),
        (
            "UPDATE metric_aggregations SET sum_exact = sum_exact + 0.000000001 WHERE interval = '15m'"
            " AND metric_name = 'trading.total_volume' AND dimension_set = 'symbol'",
            {"15m"},
        ),
        ("DELETE FROM metric_states WHERE interval = '1h'", {"1h"}),
        ("UPDATE metric_buckets SET set_hash = set_hash + 1 WHERE interval = '5m'", {"5m"}),
        (
            f"UPDATE metric_aggregations SET count = count + 1 WHERE interval = '1m' AND time_bucket >= '{OUTSIDE}'",
            {"5m", "15m", "1h"},
        ),
        (
            f"UPDATE metric_aggregations SET count = count + 1 WHERE interval = '1m' AND time_bucket < '{LAST}'",
            {"1m", "5m", "15m", "1h"},
        ),
    ],
)
def test_a_wrong_number_is_found_at_its_level(db, database, damage, found):
    db.execute(damage)
    assert levels(compared(database)) == found


def test_an_hour_that_is_going_is_refused(db, database):
    db.execute("UPDATE retention_state SET raw_floor = %s", (HOUR + timedelta(hours=1),))
    with pytest.raises(ConfigurationError, match="compare a later hour"):
        compared(database)
