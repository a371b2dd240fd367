"""Lists of events against a plain filter in Python: filters, walks both ways while events arrive, streams."""

import csv
import io
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import psycopg
import pyarrow as pa
import pytest

from analytics_pipeline.events.ids import uuid7
from analytics_pipeline.storage.event_indexes import index_closed_days
from api.database import Connection, Database
from api.events.listing import read_event_list
from api.events.pages import read_page
from api.events.reading import EventReader
from tests.integration.api_support import Api, event, iso, land, running, settings_for
from tests.integration.databases import database_copy

EVENTS = "/api/v1/events"
TYPES = ("order.placed", "order.filled", "user.login", "market.data.update")
SEED = random.SystemRandom().randrange(1 << 32)
pytestmark = pytest.mark.integration

Row = dict[str, Any]


@pytest.fixture(scope="module")
def day() -> datetime:
    """Midnight of yesterday, UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


@pytest.fixture(scope="module")
def stored(day: datetime) -> list[Row]:
    """Three days, so that two are closed; many events share a microsecond."""
    print(f"seed {SEED}")
    drawn = random.Random(SEED)
    rows = []
    for _ in range(1_500):
        at = day + timedelta(
            seconds=drawn.choice((-40_000, 0, 40_000)) + drawn.randrange(300), microseconds=drawn.randrange(2)
        )
        properties: Row = {
            "symbol": drawn.choice(("BTC", "ETH")),
            "price": drawn.choice((1, 1.0, 2.5, "2", None, True, 10**12)),
        }
        if drawn.random() < 0.5:
            properties["note"] = drawn.choice(("x", "xy", "ü", '"', ""))
        row = event(drawn.choice(TYPES), at, drawn.choice(("u1", "u2", None)), **properties)
        row["id"] = drawn.randbytes(16)
        row["session_id"] = drawn.choice(("s1", None))
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def events_database(postgres: Any, template_database: str, stored: list[Row], day: datetime) -> Iterator[str]:
    with database_copy(postgres, template_database, "api_events") as conninfo:
        land(conninfo, stored)
        yield conninfo


@pytest.fixture(scope="module")
def api(events_database: str) -> Iterator[Api]:
    with running(settings_for(events_database)) as running_api:
        yield running_api


def everything(day: datetime) -> dict[str, str]:
    return {"start_time": iso(day - timedelta(days=1)), "end_time": iso(day + timedelta(days=1))}


def in_order(rows: list[Row]) -> list[str]:
    """Ids, newest first."""
    return [
        str(UUID(bytes=row["id"]))
        for row in sorted(rows, key=lambda row: (row["timestamp"], row["id"]), reverse=True)
    ]


def ids(content: Row) -> list[str]:
    return [row["id"] for row in content["events"]]


def walk(
    api: Api, way: str = "next_cursor", between: Callable[[], None] = lambda: None, **parameters: Any
) -> list[str]:
    """All ids of all pages, by cursors."""
    found: list[str] = []
    while True:
        page = api.get(EVENTS, **parameters)
        found = found + ids(page) if way == "next_cursor" else ids(page) + found
        if way not in page:
            return found
        parameters["cursor"] = page[way]
        between()


def prop(row: Row, name: str) -> Any:
    return json.loads(row["properties"]).get(name)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


FILTERS: list[tuple[Row, Callable[[Row], bool]]] = [
    ({}, lambda row: True),
    ({"event_type": "order.placed"}, lambda row: row["event_type"] == "order.placed"),
    ({"event_type": ["order.placed", "user.login"]}, lambda row: row["event_type"] in {"order.placed", "user.login"}),
    ({"event_type": "order.*"}, lambda row: row["event_type"].startswith("order.")),
    ({"event_type": ["order.*", "user.login"]}, lambda row: row["event_type"].startswith(("order.", "user.login"))),
    ({"user_id": "u1"}, lambda row: row["user_id"] == "u1"),
    (
        {"session_id": "s1", "event_type": "user.login"},
        lambda row: row["session_id"] == "s1" and row["event_type"] == "user.login",
    ),
    ({"property": "symbol:eq:BTC"}, lambda row: prop(row, "symbol") == "BTC"),
    ({"property": "price:eq:1"}, lambda row: is_number(prop(row, "price")) and prop(row, "price") == 1),
    ({"property": 'price:eq:"2"'}, lambda row: prop(row, "price") == "2"),
    ({"property": "price:eq:null"}, lambda row: prop(row, "price") is None),
    ({"property": "price:gt:1"}, lambda row: is_number(prop(row, "price")) and prop(row, "price") > 1),
    ({"property": "price:lte:2.5"}, lambda row: is_number(prop(row, "price")) and prop(row, "price") <= 2.5),
    ({"property": "price:in:true,2.5"}, lambda row: prop(row, "price") is True or prop(row, "price") == 2.5),
    ({"property": "symbol:ne:BTC"}, lambda row: prop(row, "symbol") != "BTC"),
    ({"property": "note:prefix:x"}, lambda row: (prop(row, "note") or "").startswith("x")),
    ({"property": "note:exists:false"}, lambda row: "note" not in json.loads(row["properties"])),
    (
        {"property": ["symbol:eq:ETH", "price:gte:2"], "user_id": "u2", "event_type": ["order.filled", "order.placed"]},
        lambda row: prop(row, "symbol") == "ETH" and is_number(prop(row, "price")) and prop(row, "price") >= 2
        and row["user_id"] == "u2" and row["event_type"] in {"order.filled", "order.placed"},
    ),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(FILTERS)))
def test_every_filter_finds_what_a_plain_filter_finds(
    api: Api, stored: list[Row], day: datetime, number: int
) -> None:
    parameters, fits = FILTERS[number]
    expected = in_order([row for row in stored if fits(row)])
    assert expected
    asked = everything(day) | parameters
    assert walk(api, limit=97, **asked) == expected
    assert walk(api, limit=211, order="asc", **asked) == expected[::-1]
    total = api.get(EVENTS, limit=1, total="exact", **asked)["total"]
    assert total == {"value": len(expected), "is_exact": True}


def test_indexes_on_closed_days_change_no_answer(
    api: Api, events_database: str, stored: list[Row], day: datetime
) -> None:
    with psycopg.connect(events_database, autocommit=True, options="-c timezone=UTC") as connection:
        now = day + timedelta(hours=30)
        assert index_closed_days(connection, now=now).built > 0
        again = index_closed_days(connection, now=now)
        assert (again.built, again.before) == (0, day + timedelta(days=1))
        for user in ("u1", "u2"):
            expected = in_order([row for row in stored if row["user_id"] == user])
            assert walk(api, limit=50, user_id=user, **everything(day)) == expected
            assert walk(api, limit=50, user_id=user, order="asc", **everything(day)) == expected[::-1]
        # The border in the middle of the range.
        connection.execute("UPDATE event_index_state SET indexed_before = %s", (day,))
        expected = in_order(
            [row for row in stored if row["user_id"] == "u1" and prop(row, "symbol") == "BTC"]
        )
        asked = everything(day) | {"user_id": "u1", "property": "symbol:eq:BTC"}
        assert walk(api, limit=50, **asked) == expected
        assert walk(api, limit=50, order="asc", **asked) == expected[::-1]


def test_an_interrupted_index_is_built_anew(events_database: str, day: datetime) -> None:
    with psycopg.connect(events_database, autocommit=True, options="-c timezone=UTC") as connection:
        index_closed_days(connection, now=day)
        row = connection.execute(
            "SELECT indexrelid::regclass::text FROM pg_index"
            " WHERE indexrelid::regclass::text LIKE 'events_p%_user_id_%' LIMIT 1"
        ).fetchone()
        assert row is not None
        partition = row[0].removesuffix("_user_id_timestamp_idx")
        connection.execute(f"DROP INDEX {row[0]}")
        connection.execute("SET statement_timeout = 500")
        with psycopg.connect(events_database) as holder:
            holder.execute(f"LOCK TABLE {partition} IN ROW EXCLUSIVE MODE")
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute(f"CREATE INDEX CONCURRENTLY {row[0]} ON {partition} (user_id, timestamp)")
        connection.execute("RESET statement_timeout")
        assert index_closed_days(connection, now=day).built == 1
        valid = connection.execute("SELECT bool_and(indisvalid) FROM pg_index").fetchone()
        assert valid == (True,)


def test_pages_lead_back_to_the_first(api: Api, stored: list[Row], day: datetime) -> None:
    asked = everything(day) | {"limit": 100}
    first = api.get(EVENTS, **asked)
    assert "previous_cursor" not in first
    second = api.get(EVENTS, cursor=first["next_cursor"], **asked)
    third = api.get(EVENTS, cursor=second["next_cursor"], **asked)
    back = api.get(EVENTS, cursor=third["previous_cursor"], **asked)
    assert ids(back) == ids(second)
    start = api.get(EVENTS, cursor=back["previous_cursor"], **asked)
    assert ids(start) == ids(first)
    assert "previous_cursor" not in start
    assert ids(api.get(EVENTS, cursor=start["next_cursor"], **asked)) == ids(second)
    before = api.get(EVENTS, cursor=second["previous_cursor"], **asked | {"limit": 1000})
    assert ids(before) == ids(first)
    # Nothing lies before the first event: the way back from there begins at the first again.
    one = api.get(EVENTS, **asked | {"limit": 1})
    two = api.get(EVENTS, cursor=one["next_cursor"], **asked | {"limit": 1})
    beginning = api.get(EVENTS, cursor=two["previous_cursor"], **asked | {"limit": 1})
    assert ids(beginning) == ids(one)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_walk_skips_and_repeats_nothing_while_events_arrive(
    database: str, stored: list[Row], day: datetime, order: str
) -> None:
    drawn = random.Random(SEED)
    land(database, stored[:400])
    arriving = iter(stored[400:])

    def arrive() -> None:
        land(database, [row for row, _ in zip(arriving, range(drawn.randrange(1, 20)), strict=False)])

    with running(settings_for(database)) as api:
        found = walk(api, limit=23, order=order, between=arrive, **everything(day))
    assert len(found) == len(set(found))
    there = in_order(stored[:400])
    assert [one for one in found if one in set(there)] == (there if order == "desc" else there[::-1])


@pytest.mark.slow
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 23])
def test_a_walk_back_skips_and_repeats_nothing_while_events_arrive(
    database: str, stored: list[Row], day: datetime, order: str, limit: int
) -> None:
    drawn = random.Random(SEED)
    count = 20 * limit
    land(database, stored[:count])
    arriving = iter(stored[400 + count :])

    def arrive() -> None:
        # Fewer than a page has, so that the walk comes to an end.
        land(database, [row for row, _ in zip(arriving, range(drawn.randrange(limit + 1)), strict=False)])

    with running(settings_for(database)) as api:
        asked = {"limit": limit, "order": order, **everything(day)}
        last = api.get(EVENTS, **asked)
        while "next_cursor" in last:
            last = api.get(EVENTS, cursor=last["next_cursor"], **asked)
        before = walk(api, "previous_cursor", arrive, cursor=last["previous_cursor"], **asked)
    found = [*before, *ids(last)]
    assert len(found) == len(set(found)) > count, "some that have arrived are met, too"
    there = in_order(stored[:count])
    assert [one for one in found if one in set(there)] == (there if order == "desc" else there[::-1])
    whole = in_order(stored) if order == "desc" else in_order(stored)[::-1]
    met = set(found)
    assert found == [one for one in whole if one in met]


def test_an_event_by_its_id(api: Api, events_database: str, stored: list[Row], day: datetime) -> None:
    at = day + timedelta(hours=3, milliseconds=7)
    row = event("user.login", at, "u9")
    row["id"] = uuid7(at, b"0123456789").bytes
    land(events_database, [row])
    identity = str(UUID(bytes=row["id"]))
    assert ids(api.get(EVENTS, id=identity)) == [identity]
    other = str(UUID(bytes=stored[0]["id"]))
    assert ids(api.get(EVENTS, id=other, **everything(day))) == [other]
    stored.append(row)


def test_one_event(api: Api, events_database: str, stored: list[Row], day: datetime) -> None:
    at = day + timedelta(hours=4, milliseconds=7, microseconds=5)
    row = event("user.login", at, "u9", price=1)
    row["id"] = uuid7(at, b"9876543210").bytes
    land(events_database, [row])
    stored.append(row)
    identity = str(UUID(bytes=row["id"]))
    found = api.get(f"{EVENTS}/{identity}")
    assert found == api.get(EVENTS, id=identity)["events"][0]
    assert (found["id"], found["timestamp"], found["properties"]) == (identity, iso(at), {"price": 1})
    assert api.get(f"{EVENTS}/{identity}", timestamp=iso(at)) == found
    assert "session_id" not in found
    other = stored[0]
    path = f"{EVENTS}/{UUID(bytes=other['id'])}"
    assert api.get(path, timestamp=iso(other["timestamp"]))["event_type"] == other["event_type"]
    if UUID(bytes=other["id"]).version not in {7, 8}:
        refused = api.get(path, expect=400)
        assert (refused["parameter"], "does not hold the time" in refused["detail"]) == ("timestamp", True)
    tick = timedelta(microseconds=1)
    missed = api.get(path, expect=404, timestamp=iso(other["timestamp"] + tick))
    assert (missed["error"], missed["type"].rpartition(":")[2]) == ("Event not found", "not-found")
    assert api.get(f"{EVENTS}/{uuid7(at, b'0000000000')}", expect=404)["status"] == 404
    assert api.get(f"{EVENTS}/not-an-id", expect=400)["parameter"] == "id"


def test_a_search_says_when_its_budget_is_used_up(
    events_database: str, stored: list[Row], day: datetime
) -> None:
    small = {"query": {"max_scanned": 1_000}}
    with running(settings_for(events_database, analytics=small)) as api:
        asked = everything(day) | {"property": "symbol:eq:nobody"}
        refused = api.get(EVENTS, expect=400, **asked)
        assert refused["type"].endswith("scan-budget")
        assert "nobody" not in json.dumps(refused)
        end = api.get(EVENTS, cursor=refused["next_cursor"], **asked)
        assert (end["events"], "next_cursor" in end) == ([], False)
        asked["property"] = "symbol:eq:BTC"
        page = api.get(EVENTS, limit=1_400, **asked)
        assert page["warnings"]
        assert walk(api, limit=1_400, **asked) == in_order(
            [row for row in stored if prop(row, "symbol") == "BTC"]
        )


class Interrupted:
    """Reads during which something happens before the second statement."""

    def __init__(self, database: Database, happens: Callable[[], object]) -> None:
        self._database, self._happens = database, happens

    @asynccontextmanager
    async def read(self, query: str, /) -> AsyncIterator[Connection]:
        statements, happens = itertools.count(1), self._happens

        class Cursor(psycopg.AsyncCursor[Any]):
            async def execute(self, *args: Any, **more: Any) -> Any:
                if next(statements) == 2:
                    happens()
                return await super().execute(*args, **more)

        async with self._database.read(query) as connection:
            own, connection.cursor_factory = connection.cursor_factory, Cursor
            try:
                yield connection
            finally:
                connection.cursor_factory = own


def test_a_search_ends_where_it_has_looked_whatever_lands_meanwhile(
    api: Api, events_database: str, day: datetime
) -> None:
    today = day + timedelta(days=1)
    land(events_database, [event("searched", today + timedelta(seconds=second), n=1) for second in range(20)])

    def land_newer() -> None:
        land(events_database, [event("searched", today + timedelta(seconds=30), n=1)])

    wanted = read_event_list(
        urlencode(
            {
                "event_type": "searched",
                "property": "n:eq:1",
                "start_time": iso(today),
                "end_time": iso(today + timedelta(minutes=1)),
            }
        ).encode(),
        now=today,
        default_limit=100,
        max_results=100,
    )
    page = api.run(read_page(Interrupted(api.services.database, land_newer), wanted, most_seen=10))
    assert len(page.events) == 10
    assert page.seen_until == page.events[-1].row


def test_fields_are_all_there_is(api: Api, day: datetime) -> None:
    [row] = api.get(
        EVENTS, limit=1, fields="timestamp,properties.symbol,properties.absent,user_id", **everything(day)
    )["events"]
    assert list(row) == ["timestamp", "properties.symbol", "properties.absent", "user_id"]
    assert row["properties.absent"] is None
    assert row["properties.symbol"] in {"BTC", "ETH"}


@pytest.mark.parametrize("number", [0, 4, 11])
def test_streams_hold_what_pages_hold(api: Api, stored: list[Row], day: datetime, number: int) -> None:
    parameters, fits = FILTERS[number]
    expected = [row for row in stored if fits(row)]
    asked = everything(day) | parameters

    def stream(form: str) -> bytes:
        answer = api.request("GET", EVENTS, params=asked | {"format": form})
        assert answer.status_code == 200, answer.text
        return answer.content

    lines = [json.loads(line) for line in stream("ndjson").splitlines()]
    assert [line["id"] for line in lines] == in_order(expected)
    assert lines[:10] == api.get(EVENTS, limit=10, **asked)["events"]
    rows = list(csv.DictReader(io.StringIO(stream("csv").decode(), newline="")))
    assert [row["id"] for row in rows] == in_order(expected)
    assert [json.loads(row["properties"]) for row in rows] == [line["properties"] for line in lines]
    table = pa.ipc.open_stream(stream("arrow")).read_all()
    assert table["id"].to_pylist() == in_order(expected)
    assert table["timestamp"].to_pylist() == [datetime.fromisoformat(line["timestamp"]) for line in lines]


LARGE = 300_000
_LARGE_AND_SMALL = """
INSERT INTO events (event_type, user_id, properties, timestamp)
SELECT
    CASE WHEN mod(n, 3) = 0 THEN 'order.placed' ELSE 'order.filled' END, 'u',
    jsonb_build_object('n', n, 'text', repeat('x', CASE WHEN mod(n, 100) < 40 THEN %(large)s ELSE 10 END)),
    %(start)s + n * interval '1 second'
FROM generate_series(1, 200) AS n
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [{}, {"event_type": ["order.placed", "order.filled"]}, {"event_type": "order.*"}, {"user_id": "u"}],
)
def test_a_piece_of_a_stream_is_bounded_by_bytes_however_large_events_are(
    database: str, day: datetime, more: Row
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(_LARGE_AND_SMALL, {"large": LARGE, "start": day + timedelta(hours=1)})
    query = urlencode({**everything(day), "format": "ndjson", "order": "asc", **more}, doseq=True).encode()
    wanted = read_event_list(query, now=day, default_limit=1, max_results=1)

    async def pieces(api: Api) -> list[bytes]:
        reader = EventReader(api.services.database, 10_000, api.services.versions)
        return [piece async for piece in reader.stream(wanted)]

    with running(settings_for(database)) as api:
        found = api.run(pieces(api))
    numbers = [json.loads(line)["properties"]["n"] for line in b"".join(found).splitlines()]
    assert numbers == list(range(1, 201))
    assert sum(map(len, found)) > 80 * LARGE
    assert max(map(len, found)) < 4 * 2**20 + 2 * LARGE


@pytest.mark.slow
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_is_bounded_by_bytes_and_leads_on_both_ways(database: str, day: datetime, order: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(_LARGE_AND_SMALL, {"large": LARGE, "start": day + timedelta(hours=1)})
    expected = list(range(1, 201))[:: 1 if order == "asc" else -1]

    def numbers(answer: dict[str, Any]) -> list[int]:
        return [row["properties"]["n"] for row in answer["events"]]

    with running(settings_for(database)) as api:
        asked = {"limit": 200, "order": order, **everything(day)}
        pages = [api.get(EVENTS, **asked)]
        while "next_cursor" in pages[-1]:
            pages.append(api.get(EVENTS, cursor=pages[-1]["next_cursor"], **asked))
        assert len(pages) == 2
        assert [n for page in pages for n in numbers(page)] == expected
        back = api.get(EVENTS, cursor=pages[1]["previous_cursor"], **asked)
        first = numbers(pages[0])
        assert numbers(back) == first[-len(numbers(back)) :]
        before = api.get(EVENTS, cursor=back["previous_cursor"], **asked)
        assert [*numbers(before), *numbers(back)] == first


def test_a_stream_of_nothing_is_whole(api: Api) -> None:
    asked = {"start_time": "2020-01-01T00:00:00Z", "end_time": "2020-01-02T00:00:00Z"}
    answers = {
        form: api.request("GET", EVENTS, params=asked | {"format": form}).content
        for form in ("ndjson", "csv", "arrow")
    }
    assert answers["ndjson"] == b""
    assert answers["csv"].startswith(b"id,event_type")
    assert pa.ipc.open_stream(answers["arrow"]).read_all().num_rows == 0


def test_totals_of_types_come_from_rollups(api: Api, stored: list[Row], day: datetime) -> None:
    total = api.get(EVENTS, limit=1, total="estimated", event_type="order.placed", **everything(day))["total"]
    assert total == {"value": sum(row["event_type"] == "order.placed" for row in stored), "is_exact": True}
    guess = api.get(EVENTS, limit=1, total="estimated", user_id="u1", **everything(day))["total"]
    assert guess["is_exact"] is False
