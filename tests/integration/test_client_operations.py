"""The client about definitions, the catalog, many series in one call, dead letters, the ledger and restatements."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage import buckets, rollups
from analytics_pipeline.storage.connection import connect
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.series import Admission
from b25_client import (
    Conflict,
    Forbidden,
    InvalidRequest,
    MetricChanges,
    MetricQuery,
    NotFound,
    TilesQuery,
)
from tests.integration import rollup_data
from tests.integration.api_process import Process, started
from tests.integration.api_support import EVENTS, event, land
from tests.integration.client_support import known_key, making, unique
from tests.integration.databases import fresh_database
from tests.integration.landing_rig import claim, message
from tests.integration.landing_rig import event as sent_event
from tests.integration.landing_rig import land as land_messages
from tests.unit.rollups.events import batch
from tests.waiting import wait_for

HOUR = (datetime.now(UTC) - timedelta(hours=3)).replace(minute=0, second=0, microsecond=0)
FINAL = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=1)
SCHEMA = {"required": ["n"], "properties": {"n": {"type": "number"}}}
_topics = itertools.count(1)


@pytest.fixture(scope="module")
def module_database(postgres: Postgres, template_database: str) -> Iterator[str]:
    """Orders of three hours ago, and an hour that changed after it was final."""
    for database in fresh_database(postgres, template_database):
        with connect(database, name="test", autocommit=True) as opened:
            rollup_data.land(opened, batch(20, seed=1, start=FINAL, minutes=1), 1)
            rollups.merge_hour(opened, FINAL, run_id="run")
            buckets.finalize_buckets(
                opened, now=datetime.now(UTC), graces=dict.fromkeys(LEVELS, timedelta(0)), run_id="run"
            )
            restate(database)
        orders = [
            event("order.filled", HOUR + timedelta(minutes=n), "u", symbol=symbol, price=10 + n, quantity=1)
            for n, symbol in enumerate(("BTCUSDT", "BTCEUR", "ETHUSDT"))
        ]
        with Admission(database) as admission:
            deltas = compute_deltas(pa.Table.from_pylist(orders, EVENTS), BUILT_IN)
            admission.within_budget(deltas, BUILT_IN.by_id)
        land(database, orders)
        yield database


def restate(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT setval('ingest_batch_id_seq', 1000 + nextval('ingest_batch_id_seq'))")
        row = connection.execute("SELECT nextval('ingest_batch_id_seq')").fetchone()
        assert row is not None
        with connect(database, name="test", autocommit=True) as opened:
            rollup_data.land(opened, batch(1, seed=row[0], start=FINAL, minutes=1), row[0])
            rollups.merge_hour(opened, FINAL, run_id="late")


@pytest.fixture(scope="module")
def url(module_database: str) -> Iterator[str]:
    changes = {
        "B25_REDIS__ENABLED": "false",
        "B25_SECURITY__API_KEY_ENABLED": "true",
        "B25_SECURITY__RATE_LIMIT__ENABLED": "false",
    }
    with started(module_database, **changes) as running:
        wait_for(lambda: is_ready(running), timeout=40, message="/ready")
        yield f"http://127.0.0.1:{running.ports['SERVER']}"


def is_ready(process: Process) -> bool:
    return process.ask("SERVER", "/ready")[0] == 200


@pytest.fixture(params=["blocking", "asyncio"])
def make(request: pytest.FixtureRequest, url: str) -> Iterator[Callable[..., Any]]:
    with making(url, request.param) as client:
        yield client


@pytest.fixture(scope="module")
def admin_key(module_database: str, url: str) -> Any:
    return known_key(module_database, url, "admin")


@pytest.fixture
def client(make: Callable[..., Any], admin_key: Any) -> Any:
    return make(api_key=admin_key.text)


@pytest.mark.slow
def test_a_definition_from_its_beginning_to_its_end(client: Any) -> None:
    name = unique("custom/a b")
    made = client.create_custom_event(name, SCHEMA, display_name="A")
    assert (made.version, made.is_active, made.schema) == (1, True, SCHEMA)
    assert client.custom_event(name) == made
    assert made.etag

    changed = client.update_custom_event(name, schema={"required": ["m"]}, version=1)
    assert (changed.version, changed.display_name, changed.schema) == (2, "A", {"required": ["m"]})
    with pytest.raises(Conflict) as late:
        client.update_custom_event(name, description="x", if_match=made.etag)
    assert (late.value.status, late.value.kind) == (412, "precondition-failed")
    with pytest.raises(Conflict) as late:
        client.update_custom_event(name, description="x", version=1)
    assert (late.value.kind, late.value.extra["version"]) == ("version-conflict", 2)
    with pytest.raises(InvalidRequest) as careless:
        client.update_custom_event(name, description="x")
    assert careless.value.kind == "precondition-required"
    texts = client.update_custom_event(name, description="x", if_match=changed.etag)
    assert (texts.version, texts.description) == (2, "x")
    assert texts.etag != changed.etag

    assert not client.deactivate_custom_event(name, if_match=texts.etag).is_active
    assert name in [one.name for one in client.custom_events(is_active=False)]
    assert name not in [one.name for one in client.custom_events(is_active=True, prefix="custom/")]
    assert client.activate_custom_event(name).is_active

    versions = list(client.custom_event_versions(name))
    assert [(one.version, one.is_current) for one in versions] == [(2, True), (1, False)]
    assert client.custom_event_version(name, 1) == versions[1]
    assert client.delete_custom_event(name) is None
    with pytest.raises(NotFound):
        client.custom_event(name)
    assert len(list(client.custom_event_versions(name))) == 2


def test_all_definitions_come_page_by_page(client: Any) -> None:
    prefix = unique("pages")
    names = [f"{prefix}.{n}" for n in range(5)]
    for name in names:
        client.create_custom_event(name, SCHEMA)
    assert [one.name for one in client.custom_events(prefix=prefix, limit=2)] == names


def test_more_versions_than_a_page_has(client: Any, module_database: str) -> None:
    name = unique("versions")
    client.create_custom_event(name, SCHEMA)
    with psycopg.connect(module_database) as connection:
        connection.execute(
            "INSERT INTO custom_event_definition_versions (name, version, schema)"
            " SELECT %s, n, '{}' FROM generate_series(2, 105) AS n",
            (name,),
        )
    assert [one.version for one in client.custom_event_versions(name)] == list(range(105, 0, -1))


def test_a_schema_and_an_event_are_tried(client: Any, module_database: str) -> None:
    name = unique("tried")
    client.create_custom_event(name, SCHEMA)
    land(module_database, [event(name, datetime.now(UTC), "u", n=n) for n in (1, "x", 2)])
    found = client.custom_event_compatibility(name, last=10)
    assert (found.judged, found.refused, found.is_compatible, found.is_complete) == (3, 1, False, True)
    [kind] = found.kinds
    assert (kind.path, kind.keyword, kind.events) == ("$.properties.n", "type", 1)
    assert found.oldest <= found.newest
    assert client.custom_event_compatibility(name, {"required": ["n"]}).is_compatible

    good = client.try_custom_event(name, {"event_type": name, "properties": {"n": 1}})
    assert (good.is_valid, good.reason, good.version) == (True, None, 1)
    bad = client.try_custom_event(name, {"event_type": name, "properties": {}}, version=1)
    assert (bad.is_valid, bad.reason) == (False, "schema_violation")
    other = client.try_custom_event(name, {"event_type": name}, schema={"required": ["z"]})
    assert (other.is_valid, other.version) == (False, 2)

    changed = client.update_custom_event(name, schema=SCHEMA | {"title": "n"}, version=1)
    assert changed.would_have_refused == found
    assert changed.metrics == MetricChanges((), ())
    assert client.update_custom_event(name, description="x", version=2).would_have_refused is None

    with pytest.raises(Conflict) as used:
        client.delete_custom_event(name)
    assert "events" in used.value.extra["used_by"]


def test_what_can_be_asked_for(client: Any, make: Callable[..., Any], module_database: str, url: str) -> None:
    catalog = {one.name: one for one in client.catalog()}
    volume, latency = catalog["trading.total_volume"], catalog["trading.order_latency"]
    assert (volume.unit, volume.default_aggregation, volume.is_custom) == ("quote", "sum", False)
    assert ("symbol",) in volume.dimension_sets
    assert latency.errors["p99"].relative == 0.005
    assert catalog["users.active"].errors["distinct"].exact_up_to == 1024
    assert "trading.total_volume" in client.dimensions()["symbol"]
    asked = {"start_time": HOUR, "end_time": HOUR + timedelta(hours=1), "metric_name": "trading.total_volume"}
    assert list(client.dimension_values("symbol", **asked, limit=2)) == ["BTCEUR", "BTCUSDT", "ETHUSDT"]
    assert list(client.dimension_values("symbol", **asked, prefix="BTC")) == ["BTCEUR", "BTCUSDT"]
    with pytest.raises(NotFound):
        list(client.dimension_values("no-such"))
    with pytest.raises(TypeError, match="colour"):
        list(client.dimension_values("symbol", colour="red"))
    part = make(api_key=known_key(module_database, url, "read", event_types=["user.*"]).text)
    assert "trading.total_volume" not in {one.name for one in part.catalog()}


def test_many_series_in_one_call(client: Any) -> None:
    asked = {"start_time": HOUR, "end_time": HOUR + timedelta(hours=1), "interval": "1h"}
    volume, both, tiles, wrong = client.dashboard_query(
        [
            MetricQuery("trading.total_volume", id="v", group_by=["symbol"], top=1, explain=True, **asked),
            MetricQuery("trading.total_volume", "events.count", **asked),
            TilesQuery("active_users", "orders_filled"),
            MetricQuery("events.count", interval="2h"),
        ]
    )
    assert (volume.id, both.id) == ("v", "1")
    [one] = volume.raise_problem().metrics
    assert {point.dimensions["symbol"] for point in one.points} == {"ETHUSDT", "__other__"}
    assert one.explain
    assert [[point.value for point in each.points] for each in both.metrics] == [[33.0], [3]]
    assert set(tiles.tiles) == {"active_users", "orders_filled"}
    assert (wrong.metrics, wrong.problem.status, wrong.problem.extra["parameter"]) == ((), 400, "interval")
    with pytest.raises(InvalidRequest):
        wrong.raise_problem()
    with pytest.raises(InvalidRequest) as whole:
        client.dashboard_query([])
    assert whole.value.kind == "invalid-query"
    with pytest.raises(TypeError, match="after"):
        MetricQuery("events.count", after="x")


def letters(database: str, *contents: Any) -> str:
    """Land messages of a topic of its own; the topic."""
    topic = f"client-topic-{next(_topics)}"
    lander = Lander(database, name="landing-test")
    sent = [
        message(at, content, extra=[("token", b"secret"), ("source", topic.encode())])
        for at, content in enumerate(contents)
    ]
    land_messages(lander, claim(database, (topic, 0)), sent, source=topic)
    lander.close()
    return topic


def test_dead_letters_are_seen_replayed_and_discarded(
    client: Any, make: Callable[..., Any], module_database: str, url: str
) -> None:
    name = unique("letters")
    client.create_custom_event(name, SCHEMA)
    future = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    topic = letters(
        module_database,
        b"\xff{",
        sent_event(1, timestamp=future),
        sent_event(2, timestamp=future),
        sent_event(3),
    )
    found = list(client.dead_letters(source=topic, limit=1))
    assert [(one.offset, one.status) for one in found] == [(2, "open"), (1, "open"), (0, "open")]
    assert {one.reason for one in found[:2]} == {"too_far_in_future"}
    [large, small] = client.dead_letter_groups(source=[topic])
    assert (large.count, large.reason, small.count, small.sample) == (2, "too_far_in_future", 1, found[2].id)

    whole = client.dead_letter(found[2].id, max_bytes=1)
    assert (whole.letter, whole.value.bytes, whole.value.size, whole.value.is_cut) == (
        found[2],
        b"\xff",
        2,
        True,
    )
    assert [(one.name, one.value.bytes) for one in whole.headers] == [
        ("token", b"s"),
        ("source", topic.encode()[:1]),
    ]
    assert whole.advice
    assert list(client.dead_letters(producer=topic)) == found
    assert {one.producer for one in found} == {topic}
    assert large.producers == (topic,)
    reader = make(api_key=known_key(module_database, url, "read").text)
    assert [one.value for one in reader.dead_letter(found[2].id).headers] == [None, None]
    with pytest.raises(Forbidden):
        reader.replay_dead_letters(sources=[topic])
    with pytest.raises(NotFound):
        client.dead_letter(2**62)

    with pytest.raises(InvalidRequest):
        client.replay_dead_letters()
    with pytest.raises(TypeError, match="reasons"):
        client.replay_dead_letters(reasons="not_json")
    with pytest.raises(TypeError, match="source"):
        client.discard_dead_letters("x", source=topic)
    dry = client.replay_dead_letters(sources=[topic], dry_run=True)
    assert (dry.dry_run, dry.tried, dry.stored, dry.next_after) == (True, 3, 0, None)
    first = client.replay_dead_letters(producers=[topic], limit=2)
    assert (first.tried, sum(first.still_bad.values())) == (2, 2)
    rest = client.replay_dead_letters(sources=[topic], after=first.next_after)
    assert (rest.tried, rest.next_after) == (1, None)
    done = client.discard_dead_letters("of a test", sources=[topic], start_time=HOUR)
    assert (done.discarded, done.has_more) == (3, False)
    assert list(client.dead_letters(source=topic)) == []
    assert {one.note for one in client.dead_letters(source=topic, status="discarded")} == {"of a test"}


def test_the_ledger_accounts_for_every_message(client: Any, module_database: str) -> None:
    topic = letters(module_database, sent_event(11), b"{", sent_event(12))
    [line] = client.ledger(source=topic, dead=True)
    assert (line.read, line.stored, line.dead, line.first_offset, line.next_offset) == (3, 2, 1, 0, 3)
    assert list(client.ledger(source=topic, duplicates=True)) == []
    letters(module_database, sent_event(13))
    walked = list(client.ledger(limit=1))
    assert len(walked) > 2
    assert len(set(walked)) == len(walked)

    found = client.conservation(source=topic)
    [partition] = found.partitions
    assert (found.holds, found.gaps, dict(found.totals)["read"]) == (True, (), 3)
    assert (partition.stored, partition.standing.next_offset, partition.holds) == (2, 3, True)
    checks = {one.name: one for one in client.ledger_checks(start_time=HOUR)}
    assert checks["offsets_follow_one_another"].question
    [source] = client.sources(source=topic)
    assert (source.read, source.dead, dict(source.reasons)) == (3, 1, {"not_json": 1})
    assert source.first_at <= source.last_at


def test_restatements_are_listed_and_followed(client: Any, module_database: str) -> None:
    asked = {"metric_name": "events.count", "interval": "1h"}
    before = list(client.restatements(**asked, limit=1))
    assert before
    assert before[-1].time_bucket == FINAL
    assert before[-1].new.count == before[-1].old.count + 1 == 21
    assert list(client.restatements(**asked, reason="backfill")) == []
    page = client.restatements_page(**asked)
    assert (page.restatements, page.next_cursor) == (tuple(before), None)

    restate(module_database)
    restate(module_database)
    told = client.follow_restatements(cursor=page.previous_cursor, every=0.05, **asked)
    news = next(told)
    assert [one.new.count - before[0].new.count for one in news.restatements] == [1, 2], "oldest first"
    restate(module_database)
    later = next(told)
    assert [one.new.count - before[0].new.count for one in later.restatements] == [3], "each once"
    told.close()
    again = client.follow_restatements(cursor=news.previous_cursor, every=0.05, **asked)
    assert next(again) == later
    again.close()
    with pytest.raises(TypeError, match="colour"):
        next(client.follow_restatements(colour="red"))


def test_a_feed_without_a_cursor_begins_now(client: Any, module_database: str) -> None:
    asked = {"metric_name": "events.count", "interval": "1h"}
    newest = next(iter(client.restatements(**asked)))

    class Looks:
        """Restates once the feed has looked for the first time, as a pause of it shows."""

        def __init__(self) -> None:
            self.restated = False

        def __call__(self, _seconds: float) -> None:
            if not self.restated:
                self.restated = True
                restate(module_database)

    looks = Looks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("b25_client.operation_calls.time.sleep", looks)

        async def pause(seconds: float) -> None:
            looks(seconds)

        patch.setattr("b25_client.operation_calls.asyncio.sleep", pause)
        told = client.follow_restatements(**asked)
        [one] = next(told).restatements
        told.close()
    assert one.old.count == newest.new.count
