"""A metric that no running ingest process declares any more ends, and comes back with the first that does."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.ingest.listener import Listener
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from analytics_pipeline.storage import metric_versions
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.definitions import put_definition, set_active
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.retired_metrics import declare, retire
from tests.integration.api_support import iso, running, settings_for
from tests.integration.landing_rig import SOURCE, claim, decode, event, message, rows, span

NAME = "trading.total_volume"
OLD = BUILT_IN
NEW = Catalog(tuple(metric for metric in BUILT_IN.metrics if metric.name != NAME))
REMOVED = OLD.by_name[NAME].metric_id
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOW = datetime.now(UTC)
BEFORE = NOW.replace(minute=30, second=0, microsecond=0) - 5 * DAY
"""When the old release ran; its last word is three days old."""


class Landings:
    """One partition, landed by either release."""

    def __init__(self, database: str) -> None:
        self.catalog = OLD
        self._lander = Lander(database, name="landing-test", catalog=lambda: self.catalog)
        self._owner = claim(database)
        self._number = 0

    def land(self, catalog: Catalog, at: datetime) -> None:
        """One fill: price 10, quantity 2."""
        self.catalog = catalog
        said = {"price": 10, "quantity": 2}
        self._number += 1
        sent = event(self._number, event_type="order.filled", properties=said, timestamp=at.isoformat())
        messages = [message(self._owner.next_offset, sent)]
        decoded = decode([RawBatch(SOURCE, 0, messages)], Limits(raw_retention=30 * DAY))
        self._lander.land([span(self._owner, messages)], decoded)
        self._owner = self._owner._replace(next_offset=messages[-1].offset() + 1)

    def close(self) -> None:
        self._lander.close()


@pytest.fixture
def landings(database: str, db: Connection) -> Iterator[Landings]:
    """The old release has run, and is gone since three days."""
    ensure_range(db, BEFORE, NOW)
    metric_versions.register(db, OLD.metrics)
    declare(db, OLD.by_id)
    made = Landings(database)
    made.land(OLD, BEFORE)
    age(db, 3 * DAY)
    yield made
    made.close()


def age(db: Connection, by: timedelta) -> None:
    """So much time goes by, in which no process says a word."""
    for column in ("declared_at", "undeclared_since"):
        db.execute(f"UPDATE metric_declarations SET {column} = {column} - %s", (by,))


def retired(db: Connection) -> list[str]:
    return [one.name for one in retire(db, DAY)]


def in_force(db: Connection, name: str = NAME) -> bool:
    found = "SELECT EXISTS (SELECT FROM metric_versions WHERE metric_name = %s AND superseded_at IS NULL)"
    return bool(db.execute(found, (name,)).fetchall()[0][0])


def gap_hours(database: str) -> set[datetime]:
    return {hour for [hour] in rows(database, "SELECT hour FROM metric_gaps WHERE metric_id = %s", REMOVED)}


def volume(database: str) -> dict[datetime, float]:
    asked = "SELECT time_bucket, sum FROM metrics_live WHERE metric_name = %s AND interval = '1m'"
    return dict(rows(database, f"{asked} AND dimension_set = ''", NAME))


def test_it_ends_where_its_last_process_fell_silent_and_its_history_stays(
    database: str, db: Connection, landings: Landings
) -> None:
    declare(db, NEW.by_id)
    landings.land(NEW, NOW)
    landings.land(NEW, BEFORE + HOUR)
    late, today = (at.replace(minute=0, second=0, microsecond=0) for at in (BEFORE + HOUR, NOW))
    assert gap_hours(database) == {late, today}
    assert retired(db) == [], "nobody has missed it for long"
    age(db, DAY - HOUR)
    assert retired(db) == []
    age(db, HOUR)
    assert retired(db) == [NAME]
    assert retired(db) == []

    assert gap_hours(database) == {late}, (
        "what its history lacks is still said, and nothing of the time after"
    )
    landings.land(NEW, NOW)
    landings.land(NEW, BEFORE)
    assert gap_hours(database) == {late, late - HOUR}
    assert volume(database) == {BEFORE: 20.0}
    with running(settings_for(database)) as api:
        asked = {"metric_name": NAME, "start_time": iso(BEFORE - HOUR), "end_time": iso(NOW + HOUR)}
        [point] = api.get("/api/v1/metrics", **asked)["result"]["data_points"]
        assert point["value"] == 20.0
        assert point["incomplete"], "an event of its hour landed without it"


def test_an_old_process_beside_a_new_one_keeps_it(database: str, db: Connection, landings: Landings) -> None:
    for _ in range(3):
        age(db, DAY)
        declare(db, NEW.by_id)
        age(db, DAY)
        assert declare(db, OLD.by_id) == []
        assert retired(db) == []
        declare(db, NEW.by_id)
        age(db, DAY)
        assert retired(db) == [], "when the new one spoke, the old one had just been heard"
    landings.land(NEW, NOW)
    assert len(gap_hours(database)) == 1
    [(versions,)] = db.execute(
        "SELECT count(*) FROM metric_versions WHERE metric_name = %s", (NAME,)
    ).fetchall()
    assert versions == 1


def test_nothing_ends_while_no_process_runs(db: Connection, landings: Landings) -> None:
    age(db, 30 * DAY)
    assert retired(db) == []
    declare(db, NEW.by_id)
    assert retired(db) == [], "the process that starts first may be of either release"
    declare(db, OLD.by_id)
    age(db, DAY)
    assert retired(db) == []


def test_a_rollback_brings_it_back_and_its_history_is_not_touched(
    database: str, db: Connection, landings: Landings
) -> None:
    declare(db, NEW.by_id)
    age(db, DAY)
    assert retired(db) == [NAME]
    assert metric_versions.register(db, OLD.metrics) == [NAME]
    assert declare(db, OLD.by_id) == []
    assert in_force(db)
    following = metric_versions.available_from(db, [REMOVED])
    assert following is not None
    landings.land(OLD, following)
    assert volume(database) == {BEFORE: 20.0, following: 20.0}
    landings.land(NEW, following)
    assert gap_hours(database) == {following.replace(minute=0)}
    declare(db, NEW.by_id)
    assert retired(db) == []


def test_a_process_that_was_cut_off_for_long_registers_it_again(
    database: str, db: Connection, landings: Landings
) -> None:
    listener = Listener(database, is_custom_enabled=False)
    listener.load(db)
    age(db, 3 * DAY)
    declare(db, NEW.by_id)
    age(db, DAY)
    assert retired(db) == [NAME]
    assert not in_force(db)
    listener.declare(db)
    assert in_force(db)
    listener.declare(db)
    assert retired(db) == []


def test_an_edit_that_took_the_name_is_not_undone(db: Connection, landings: Landings) -> None:
    """Only what nobody declared comes back by itself: otherwise two releases would take the name by turns."""
    declare(db, NEW.by_id)
    age(db, DAY)
    assert retired(db) == [NAME]
    edited = replace(OLD.by_name[NAME], value="quantity")
    assert metric_versions.register(db, [edited]) == [NAME]
    assert declare(db, OLD.by_id) == []


def test_the_metric_of_a_definition_that_was_deactivated_ends(database: str, db: Connection) -> None:
    put_definition(db, "my.signal", {"properties": {"strength": {"type": "number"}}})
    listener, name = Listener(database, is_custom_enabled=True), "custom.my.signal.strength"
    listener.load(db)
    assert in_force(db, name)
    set_active(db, "my.signal", False)
    listener.load(db)
    age(db, HOUR)
    listener.declare(db)
    age(db, DAY)
    listener.declare(db)
    assert retired(db) == [name]
    set_active(db, "my.signal", True)
    listener.load(db)
    assert in_force(db, name)
