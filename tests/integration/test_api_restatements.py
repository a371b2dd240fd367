"""`/api/v1/restatements`: every change of a final bucket, once to whoever polls, whatever commits in which order."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage import buckets, rollups
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.restatements import Reason, complete_until, restatements, restating
from tests.integration.api_support import Api, iso, running, settings_for
from tests.integration.databases import database_copy
from tests.integration.rollup_data import land
from tests.unit.rollups.events import batch

FEED = "/api/v1/restatements"
DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
HOURS = [DAY + timedelta(hours=hour) for hour in (3, 4, 5)]


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    """Three hours that are final, each with one late event more."""
    with database_copy(postgres, template_database, "api_restatements") as copied:
        with connect(copied, name="test", autocommit=True) as opened:
            for number, hour in enumerate(HOURS):
                land(opened, batch(20, seed=number, start=hour, minutes=1), number + 1)
                rollups.merge_hour(opened, hour, run_id="run")
            buckets.finalize_buckets(
                opened, now=datetime.now(UTC), graces=dict.fromkeys(LEVELS, timedelta(0)), run_id="run"
            )
            for number, hour in enumerate(HOURS):
                land(opened, batch(1, seed=50 + number, start=hour, minutes=1), number + 11)
                rollups.merge_hour(opened, hour, run_id=f"late-{number}")
        yield copied


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    settings = settings_for(database, security={"rate_limit": {"enabled": False}})
    with running(settings) as running_api:
        yield running_api


@pytest.fixture
def connections(database: str) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(connect(database, name="test", autocommit=True, lock_timeout="5s"))
            for _ in range(3)
        ]


def ids(answer: Any) -> list[int]:
    return [one["id"] for one in answer["restatements"]]


def restate(connection: Connection, hour: datetime, by: int = 1) -> None:
    """Change the total of an hour, in the caller's transaction, as a merge does."""
    with restating(connection, "1h", {hour: Reason.BACKFILL}, run_id="test"):
        connection.execute(
            "UPDATE metric_aggregations SET count = count + %s WHERE metric_name = 'events.count'"
            " AND dimension_set = '' AND interval = '1h' AND time_bucket = %s",
            (by, hour),
        )


def test_each_change_tells_what_was_and_what_is(api: Api) -> None:
    chosen = {"metric_name": "events.count", "interval": "1h", "reason": "late"}
    found = api.get(FEED, **chosen)["restatements"]
    assert [one["time_bucket"] for one in found] == [iso(hour) for hour in HOURS[::-1]]
    assert [(one["old"]["count"], one["new"]["count"]) for one in found] == [(20, 21)] * 3
    assert [one["run_id"] for one in found] == ["late-2", "late-1", "late-0"]
    assert {(one["revision"], one["reason"]) for one in found} == {(2, "late")}
    middle = {"start_time": iso(HOURS[1]), "end_time": iso(HOURS[2])}
    assert ids(api.get(FEED, **chosen, **middle)) == [found[1]["id"]]
    assert ids(api.get(FEED, **chosen, since=found[1]["restated_at"])) == [one["id"] for one in found[:2]]
    assert ids(api.get(FEED, metric_name="events.count", interval="1h", reason="backfill")) == []
    sums = api.get(FEED, metric_name="trading.total_volume", interval="1d")["restatements"]
    assert all(isinstance((one["new"] or one["old"])["sum"], float) for one in sums)


def test_pages_walk_down_and_up_again(api: Api, database: str) -> None:
    with connect(database, name="test", autocommit=True) as opened:
        every = [one.id for one in restatements(opened, limit=1_000)]
    assert len(every) > 15
    down: list[int] = []
    page = api.get(FEED, limit=4)
    while True:
        down += ids(page)
        if "next_cursor" not in page:
            break
        page = api.get(FEED, limit=4, cursor=page["next_cursor"])
    assert down == every
    up = ids(page)
    while found := ids(page := api.get(FEED, limit=4, cursor=page["previous_cursor"])):
        up = found + up
    assert up == every
    assert ids(api.get(FEED, limit=1_000, cursor=page["next_cursor"])) == every


def test_who_polls_sees_each_change_once_also_when_ids_commit_out_of_order(
    api: Api, connections: list[Connection]
) -> None:
    first, second, _ = connections
    seen: list[int] = []
    cursor = api.get(FEED)["previous_cursor"]

    def poll() -> list[int]:
        nonlocal cursor
        page = api.get(FEED, cursor=cursor, limit=1)
        cursor = page["previous_cursor"]
        seen.extend(ids(page))
        return ids(page)

    assert poll() == []
    newest = ids(api.get(FEED, limit=1))
    with first.transaction():
        restate(first, HOURS[0])  # has its id, and is not committed
        with second.transaction():
            restate(second, HOURS[1])
        assert poll() == [], "one with a smaller id can still come"
        assert ids(api.get(FEED, limit=1)) == newest, "the first page doesn't promise it either"
    while poll():
        pass
    both = api.get(FEED, limit=2)
    assert seen == ids(both)[::-1]
    assert {one["time_bucket"] for one in both["restatements"]} == {iso(hour) for hour in HOURS[:2]}


def test_a_filtered_poll_passes_over_what_it_does_not_want(api: Api, connections: list[Connection]) -> None:
    asked = {"metric_name": "trading.total_volume"}
    cursor = api.get(FEED, **asked)["previous_cursor"]
    with connections[0].transaction():
        restate(connections[0], HOURS[2])
    page = api.get(FEED, cursor=cursor, **asked)
    assert ids(page) == []
    assert page["previous_cursor"] != cursor, "what was looked at is not looked at again"


def test_a_writer_that_gives_up_holds_nothing_back(connections: list[Connection]) -> None:
    first, second, reader = connections
    before = complete_until(reader)
    with first.transaction():
        restate(first, HOURS[0])
        assert complete_until(reader) == before
        with second.transaction():
            restate(second, HOURS[1])
        assert complete_until(reader) == before
        raise psycopg.Rollback
    assert complete_until(reader) == before + 2


def test_a_writer_that_begins_after_the_last_id_was_read_holds_nothing_back(
    connections: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, reader = connections
    before = complete_until(reader)

    class Late:
        """Between the two questions of the reader, one change commits and another begins."""

        def execute(self, statement: Any, values: Any = None) -> Any:
            answer = reader.execute(statement, values)
            if values is None:
                with second.transaction():
                    restate(second, HOURS[1])
                first.execute("BEGIN")
                restate(first, HOURS[0])
            return answer

    assert complete_until(Late()) == before  # type: ignore[arg-type]
    first.execute("COMMIT")


@pytest.mark.parametrize(
    "query",
    ["interval=2h", "reason=x", "start_time=1", "since=x", "limit=0", "cursor=x", "metric_name=a%00",
     "cursor=WyJyZXN0YXRlbWVudHMiLDFd", "cursor=WyJyZXN0YXRlbWVudHMiLC0xLDFd"],
)  # fmt: skip
def test_bad_parameters_are_refused(api: Api, query: str) -> None:
    assert api.request("GET", f"{FEED}?{query}").status_code == 400
