"""`/api/v1/ledger`: every message of a range accounted for, and each loss named with its offsets."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from analytics_pipeline.cli.options import json_line
from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.storage import audit, source_statistics
from analytics_pipeline.storage.batches import Filter, batches
from analytics_pipeline.storage.connection import Connection, connection
from analytics_pipeline.storage.landing import Lander
from api import desk
from api.errors import Unavailable
from tests.integration import landing_rig
from tests.integration.api_support import Api, iso, running, settings_for
from tests.integration.databases import database_copy
from tests.integration.landing_rig import (
    SOURCE,
    claim,
    decode,
    decode_inbox,
    execute,
    land,
    message,
    span,
    value,
)
from tests.waiting import wait_for

LEDGER, CONSERVATION, CHECKS = "/api/v1/ledger", "/api/v1/ledger/conservation", "/api/v1/ledger/checks"
SOURCES = "/api/v1/sources"
event = cache(landing_rig.event)  # the same number is the same event again


@pytest.fixture(scope="module")
def landed(postgres: Postgres, template_database: str) -> Iterator[str]:
    """Two partitions of three batches, with duplicates, dead letters and gaps; one of both together; a posted one."""
    with database_copy(postgres, template_database, "api_ledger") as database:
        lander = Lander(database, name="landing-test")
        owners = {}
        for partition in (0, 1):
            owner = claim(database, (SOURCE, partition), 100)
            for number in range(3):
                first = owner.next_offset + number  # a gap before the second and the third
                contents = [event(1000 * partition + 10 * number + n) for n in range(5)]
                sent = [*contents, contents[0], b"broken"]
                messages = [message(first + n, content) for n, content in enumerate(sent)]
                _, owner = land(lander, owner, messages, partition=partition)
            owners[partition] = owner
        both = {
            number: [message(owner.next_offset, event(5000 + number))] for number, owner in owners.items()
        }
        lander.land(
            [span(owners[number], sent, SOURCE, number) for number, sent in both.items()],
            decode([RawBatch(SOURCE, number, sent) for number, sent in both.items()]),
        )
        execute(database, "INSERT INTO http_accepted VALUES (gen_random_uuid(), current_date, 1)")
        execute(database, "INSERT INTO http_inbox (payload) VALUES (%s)", json.dumps(event(9001)).encode())
        lander.land_inbox(2, decode_inbox)
        lander.close()
        yield database


@pytest.fixture(scope="module")
def api(landed: str) -> Iterator[Api]:
    settings = settings_for(landed, security={"rate_limit": {"enabled": False}})
    with running(settings) as running_api:
        yield running_api


def plain(rows: Any) -> Any:
    return json.loads(json.dumps(rows, default=iso))


@pytest.mark.slow
def test_lines_are_those_of_the_command_and_pages_walk_through_all(api: Api, landed: str) -> None:
    with connection(landed, name="test") as opened:
        every = [asdict(line) for line in batches(opened, Filter())]
        dead = [asdict(line) for line in batches(opened, Filter(partition=1, has_dead=True))]
    assert len(every) == 9
    assert api.get(LEDGER)["lines"] == plain(every)
    assert api.get(LEDGER, partition=1, dead="true", source=SOURCE)["lines"] == plain(dead)
    for limit in (1, 2, 4):
        walked: list[Any] = []
        more: dict[str, Any] = {}
        while more is not None:
            page = api.get(LEDGER, limit=limit, **more)
            walked += page["lines"]
            more = {"cursor": page["next_cursor"]} if "next_cursor" in page else None  # type: ignore[assignment]
        assert walked == plain(every)
    [line] = api.get(LEDGER, source=SOURCE, partition=0, offset=103)["lines"]
    assert line["first_offset"] <= 103 < line["next_offset"]
    assert api.get(LEDGER, batch_id=line["batch_id"])["count"] == 1
    assert api.get(LEDGER, notes="true")["lines"] == []
    assert api.get(LEDGER, start_time=iso(datetime.now(UTC) + timedelta(hours=1)))["lines"] == []


def test_every_message_is_accounted_for(api: Api) -> None:
    answer = api.get(CONSERVATION)
    assert (answer["holds"], answer["gaps"]) == (True, [])
    assert answer["totals"] == {
        "lines": 9, "read": 45, "stored": 33, "duplicate": 6, "dead": 6, "skipped": 6,
    }  # fmt: skip
    posted, first, second = answer["partitions"]
    assert (posted["source"], posted["read"], posted["first_offset"], posted["standing"]) == (
        "http",
        1,
        None,
        None,
    )
    for number, one in enumerate((first, second)):
        assert (one["source"], one["partition"], one["holds"]) == (SOURCE, number, True)
        assert (one["first_offset"], one["next_offset"]) == (100, 125)
        assert one["next_offset"] - one["first_offset"] == one["read"] + one["skipped"]
        assert one["read"] == one["stored"] + one["duplicate"] + one["dead"] == 22
        assert one["standing"]["next_offset"] == 125
        assert one["standing"]["caught_up_at"] is None
    only = api.get(CONSERVATION, source=SOURCE, partition=1)
    assert only["partitions"] == [second]
    # Partitions in which nothing landed are told as well: they stand somewhere.
    later = api.get(CONSERVATION, start_time=iso(datetime.now(UTC)), end_time="2100-01-01T00:00:00Z")
    assert [(one["lines"], one["standing"]["next_offset"]) for one in later["partitions"]] == [(0, 125)] * 2


def test_freshness_is_what_the_owner_noted(api: Api, landed: str) -> None:
    at = datetime.now(UTC) - timedelta(seconds=90)
    execute(landed, "UPDATE ingest_offsets SET caught_up_at = %s WHERE partition = 0", at)
    [one] = api.get(CONSERVATION, source=SOURCE, partition=0)["partitions"]
    assert 90 <= one["standing"]["behind_seconds"] < 120
    execute(landed, "UPDATE ingest_offsets SET caught_up_at = NULL")


def test_checks_are_those_of_the_command(api: Api, landed: str) -> None:
    with connection(landed, name="test") as opened:
        cheap = [check.as_dict() for check in audit.verify_ledger(opened)]
        whole = [check.as_dict() for check in audit.verify(opened)]
    start = {"start_time": "1970-01-01T00:00:00Z"}
    assert api.get(CHECKS, **start)["checks"] == plain(cheap)
    answer = api.get(CHECKS, tables="true", **start)
    assert (answer["holds"], answer["checks"]) == (True, plain(whole))


def test_a_lost_batch_is_a_gap_also_at_the_beginning_of_the_range(api: Api, landed: str) -> None:
    lost, before, behind = (
        value(
            landed,
            "SELECT batch_id FROM ingest_batches WHERE source = %s AND partition = 0"
            " ORDER BY batch_id OFFSET %s LIMIT 1",
            SOURCE,
            number,
        )
        for number in (1, 0, 2)
    )
    at = value(landed, "SELECT committed_at FROM ingest_batches WHERE batch_id = %s", behind)
    whole_range = api.get(CONSERVATION, start_time=iso(at))
    assert whole_range["holds"], "the line before the range is the one that it follows"
    execute(landed, "CREATE TABLE kept AS SELECT * FROM ingest_batches WHERE batch_id = %s", lost)
    execute(landed, "DELETE FROM ingest_batches WHERE batch_id = %s", lost)
    for start in ({}, {"start_time": iso(at)}):
        answer = api.get(CONSERVATION, **start)
        [gap] = answer["gaps"]
        assert gap == {
            "source": SOURCE, "partition": 0, "expected": 107, "first_offset": 115,
            "after_batch": before, "batch_id": behind,
        }  # fmt: skip
        assert [(one["gaps"], one["holds"]) for one in answer["partitions"] if one["source"] == SOURCE] == [
            (1, False), (0, True),
        ]  # fmt: skip
        assert not answer["holds"]
    assert not api.get(CHECKS)["holds"]
    assert api.get(CONSERVATION, partition=1)["holds"]
    execute(landed, "INSERT INTO ingest_batches SELECT * FROM kept")


@pytest.mark.parametrize("path", [LEDGER, CONSERVATION, CHECKS, SOURCES])
@pytest.mark.parametrize(
    "query",
    [
        "partition=-1", "partition=2147483648", "partition=x", "offset=-1", "offset=1e3", "batch_id=0", "dead=yes",
        "tables=1", "start_time=now", "end_time=2026-02-30T00:00:00Z", "source=a%00", "cursor=x", "limit=0",
        "cursor=WyJsZWRnZXIiLDEsImEiXQ", "cursor=WyJkZWFkLWxldHRlcnMiLDFd",
        "start_time=2026-02-01T00:00:00Z&end_time=2026-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_bad_and_unknown_parameters_are_refused(api: Api, path: str, query: str) -> None:
    answer = api.request("GET", f"{path}?{query}")
    names = {one.partition("=")[0] for one in query.split("&")}
    known = {one["name"] for one in api.get("/openapi.json")["paths"][path]["get"]["parameters"]}
    is_range = len(names) == 2
    expected = 200 if names <= known and is_range and path == LEDGER else 400
    assert answer.status_code == expected, answer.text


def test_sources_are_those_of_the_command(api: Api, landed: str) -> None:
    end = datetime.now(UTC) + timedelta(minutes=1)
    start = end - timedelta(hours=5)
    with connection(landed, name="test") as opened:
        found = source_statistics.read(opened, since=start, until=end)
    expected = json.loads(json_line([asdict(one) for one in found]))
    assert [one["source"] for one in expected] == ["http", SOURCE]
    asked = {"start_time": iso(start), "end_time": iso(end)}
    answer = api.get(SOURCES, **asked)
    assert answer["sources"] == expected
    assert datetime.fromisoformat(answer["start_time"]) == start.replace(minute=0, second=0, microsecond=0)
    [kafka] = api.get(SOURCES, source=SOURCE, **asked)["sources"]
    assert (kafka["read"], kafka["stored"], kafka["duplicate"], kafka["dead"]) == (44, 32, 6, 6)
    assert kafka["reasons"] == {"not_json": 6}
    assert kafka["lateness_p50_ms"] <= kafka["lateness_p99_ms"]
    assert api.get(SOURCES, source="none", **asked)["sources"] == []
    for producer in {one["producer"] for one in expected} - {None}:
        wanted = [one for one in expected if one["producer"] == producer]
        assert api.get(SOURCES, producer=producer, **asked)["sources"] == wanted
    assert api.get(SOURCES, producer="nobody", **asked)["sources"] == []
    long_ago = iso(end - timedelta(days=32))
    refused = api.get(SOURCES, expect=400, start_time=long_ago)
    assert refused["parameter"] == "start_time"
    assert api.get(SOURCES, start_time=long_ago, end_time=iso(end - timedelta(days=31)))["sources"] == []


def test_work_at_the_desk_ends_when_postgres_stops_answering(api: Api) -> None:
    async def asleep() -> Any:
        try:
            await api.services.desk.read("test", lambda opened: opened.execute("SELECT pg_sleep(60)"))
        except Unavailable as error:
            return error.kind

    async def cut() -> str:
        waiting = asyncio.create_task(asleep())
        while not api.services.database._active:  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.01)
        api.services.database._cut_all()
        return str(await asyncio.wait_for(waiting, 5))

    assert api.run(cut()) == "database-unavailable"


@pytest.mark.slow
def test_too_much_work_at_the_desk_is_refused_and_a_turn_ends_with_its_work(api: Api, landed: str) -> None:
    def slowly(opened: Connection) -> None:
        opened.execute("SELECT pg_advisory_lock(1)")

    async def crowd() -> tuple[str, list[Any]]:
        tasks = [asyncio.create_task(api.services.desk.read("test", slowly)) for _ in range(desk.MOST_READS)]
        await asyncio.sleep(0)
        try:
            await api.services.desk.read("test", slowly)
            kind = "served"
        except Unavailable as error:
            kind = error.kind
        for task in tasks:
            task.cancel()
        return kind, await asyncio.gather(*tasks, return_exceptions=True)

    with connection(landed, name="test", autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(1)")
        kind, ended = api.run(crowd())
        assert kind == "overloaded"
        assert [type(one) for one in ended] == [asyncio.CancelledError] * desk.MOST_READS
        # Nobody waits for them any more, but their threads are not free yet.
        assert api.request("GET", LEDGER).json()["type"].endswith("overloaded")
    wait_for(lambda: api.request("GET", LEDGER).status_code == 200, message="a turn")
