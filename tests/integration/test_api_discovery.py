"""What can be asked for: the catalog, dimensions and their values, and of each only what the key would be shown."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.storage import metric_versions
from analytics_pipeline.storage.connection import connect
from analytics_pipeline.storage.series import Admission
from tests.integration.api_support import EVENTS, Api, event, iso, land, settle
from tests.integration.databases import database_copy
from tests.integration.keyed_api import Client, asking_for_keys, client_of
from tests.waiting import wait_for

CATALOG, DIMENSIONS, METRICS = "/api/v1/metrics/catalog", "/api/v1/dimensions", "/api/v1/metrics"
NOW = datetime.now(UTC).replace(microsecond=0)
YESTERDAY = NOW - timedelta(days=1)
ALL = {"start_time": iso(YESTERDAY), "end_time": iso(NOW + timedelta(seconds=1))}


def values_path(name: str) -> str:
    return f"{DIMENSIONS}/{name}/values"


TODAYS = [
    event("order.filled", NOW, "u1", symbol="BTCUSDT", strategy_id="a", price=2, quantity=3, latency_ms=4),
    event("order.filled", NOW, "u2", symbol="ETHUSDT", strategy_id="b", price=1, quantity=1, latency_ms=9),
    event("order.placed", NOW, "u2", symbol="BTCEUR"),
    event("market.data.update", NOW, symbol="SOLUSDT", price=20, volume=1, bid=19, ask=21),
    event("balance.updated", NOW, account_id="x", asset="EUR", balance=5),
    event("balance.updated", NOW, account_id="y", asset="USD", balance=7),
    event("weird %_\\ type", NOW),
]
YESTERDAYS = [event("order.placed", YESTERDAY, "u1", symbol="ADAUSDT", strategy_id="c")]


def admit_and_land(conninfo: str, events: Sequence[dict[str, Any]]) -> None:
    with Admission(conninfo) as admission:
        admission.within_budget(
            compute_deltas(pa.Table.from_pylist(list(events), EVENTS), BUILT_IN), BUILT_IN.by_id
        )
    land(conninfo, events)


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    with database_copy(postgres, template_database, "api_discovery") as copied:
        with connect(copied, name="test", autocommit=True) as connection:
            metric_versions.register(
                connection, [one for one in BUILT_IN.metrics if one.name != "alerts.triggered"]
            )
        admit_and_land(copied, YESTERDAYS)
        settle(copied)
        admit_and_land(copied, TODAYS)
        yield copied


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    with asking_for_keys(database, security={"rate_limit": {"enabled": False}}) as running_api:
        yield running_api


@pytest.fixture(scope="module")
def everything(api: Api, database: str) -> Client:
    return client_of(api, database, "read", "write")


@pytest.fixture(scope="module")
def orders(api: Api, database: str) -> Client:
    return client_of(api, database, "read", event_types=["order.*"])


@pytest.fixture(scope="module")
def team(api: Api, database: str) -> Client:
    return client_of(api, database, "read", dimensions={"strategy_id": ["a", "c"]})


@pytest.fixture(scope="module")
def account(api: Api, database: str) -> Client:
    return client_of(api, database, "read", dimensions={"account_id": ["x"]})


def catalog_of(client: Client) -> dict[str, Any]:
    found = client.get(CATALOG)
    assert found["count"] == len(found["metrics"])
    return {one["name"]: one for one in found["metrics"]}


def groupings(client: Client) -> list[tuple[str, dict[str, str]]]:
    """Everything that the catalog says can be asked for."""
    found = []
    for name, one in catalog_of(client).items():
        for aggregation in one["aggregations"]:
            names = [[], *one["dimension_sets"]] if one["has_total"] else one["dimension_sets"]
            if aggregation == "skipped":  # in total alone
                names = [[]]
            elif one["is_carried"] and aggregation != one["default_aggregation"]:  # as it is kept
                names = one["dimension_sets"][:1]
            found += [
                (name, {"aggregation": aggregation} | ({"group_by": ",".join(each)} if each else {}))
                for each in names
            ]
    return found


def test_every_metric_of_the_catalog_is_there(everything: Client) -> None:
    found = catalog_of(everything)
    assert list(found) == [one.name for one in BUILT_IN.metrics]
    latency = found["trading.order_latency"]
    assert latency.pop("precision").startswith("quantiles within 0.5 %")
    assert latency == {
        "name": "trading.order_latency",
        "description": "Time from placing an order to its fill.",
        "unit": "ms",
        "event_types": ["order.filled"],
        "value": "latency_ms",
        "intervals": ["1m", "5m", "15m", "1h", "1d"],
        "aggregations": ["avg", "count", "sum", "min", "max", "p50", "p95", "p99", "skipped", "rate"],
        "has_quantiles": True,
        "default_aggregation": "avg",
        "dimension_sets": [["symbol"], ["strategy_id"]],
        "has_total": True,
        "name_by": None,
        "is_carried": False,
        "errors": {name: {"relative": 0.005} for name in ("p50", "p95", "p99")},
        "series_limit": 1000,
        "available_from": "1970-01-01T00:00:00Z",
        "is_custom": False,
    }
    assert found["users.active"]["errors"] == {"distinct": {"standard": 0.0313, "exact_up_to": 1024}}
    assert (found["users.active"]["series_limit"], found["users.active"]["dimension_sets"]) == (None, [])
    assert found["events.count"]["name_by"] == "event_type"
    assert not found["market.price"]["has_total"]
    assert found["accounts.balance"]["dimension_sets"] == [["account_id", "asset"], ["account_id"], ["asset"]]
    assert found["alerts.triggered"]["available_from"] is None  # no landing knows it


@pytest.mark.slow
def test_what_the_catalog_offers_can_be_asked_for_by_everybody_who_is_offered_it(
    everything: Client, orders: Client, team: Client, account: Client
) -> None:
    for client in (orders, team, account):
        asked = groupings(client)
        assert asked
        for name, parameters in asked:
            is_of_one_series = "group_by" not in parameters and client is team
            answer = client.request("GET", METRICS, params={"metric_name": name, **parameters})
            if (
                is_of_one_series and answer.status_code == 403
            ):  # of several values together there is no such state
                assert "of several values together is not kept" in answer.json()["detail"], name
            else:
                assert answer.status_code == 200, (name, parameters, answer.text)


def test_what_the_catalog_does_not_offer_is_refused(
    everything: Client, orders: Client, team: Client, account: Client
) -> None:
    for client in (orders, team, account):
        shown = catalog_of(client)
        for name, one in catalog_of(everything).items():
            for names in [[], *one["dimension_sets"]]:
                is_offered = name in shown and (
                    names in shown[name]["dimension_sets"] if names else shown[name]["has_total"]
                )
                parameters = {"group_by": ",".join(names)} if names else {}
                answer = client.request("GET", METRICS, params={"metric_name": name, **parameters})
                assert (answer.status_code == 200) == is_offered, (name, names, answer.text)


def test_metrics_of_custom_events_are_in_it(api: Api, everything: Client) -> None:
    body = {"name": "my.signal", "schema": {"properties": {"strength": {"type": "number"}}}}
    everything.request("POST", "/api/v1/custom-events", json=body)
    wait_for(lambda: "custom.my.signal.strength" in catalog_of(everything), message="it is in the catalog")
    found = catalog_of(everything)["custom.my.signal.strength"]
    assert (found["is_custom"], found["value"], found["dimension_sets"]) == (True, "strength", [])
    assert (found["available_from"], found["has_total"], found["default_aggregation"]) == (None, True, "avg")


def test_dimensions_and_who_has_them(everything: Client, orders: Client, account: Client) -> None:
    found = {one["name"]: one["metrics"] for one in everything.get(DIMENSIONS)["dimensions"]}
    assert list(found) == ["account_id", "asset", "event_type", "severity", "strategy_id", "symbol"]
    assert (found["event_type"], found["severity"]) == (["events.count"], ["alerts.triggered"])
    assert "market.price" in found["symbol"]
    of_orders = {one["name"]: one["metrics"] for one in orders.get(DIMENSIONS)["dimensions"]}
    assert list(of_orders) == ["event_type", "strategy_id", "symbol"]
    assert "market.price" not in of_orders["symbol"]
    assert account.get(DIMENSIONS)["dimensions"] == [
        {"name": "account_id", "metrics": ["accounts.balance"]},
        {"name": "asset", "metrics": ["accounts.balance"]},
    ]


def values(client: Client, name: str, **more: Any) -> list[str | None]:
    found = client.get(values_path(name), **{**ALL, **more})
    assert found["count"] == len(found["values"])
    assert found["dimension"] == name
    return list(found["values"])


def test_values_are_those_that_were_seen_in_the_days_asked_for(everything: Client) -> None:
    symbols = {"ADAUSDT", "BTCEUR", "BTCUSDT", "ETHUSDT", "SOLUSDT"}
    assert set(values(everything, "symbol")) == symbols
    assert set(values(everything, "symbol", start_time=iso(NOW))) == symbols - {"ADAUSDT"}
    assert values(everything, "symbol", end_time=iso(YESTERDAY + timedelta(seconds=1))) == ["ADAUSDT"]
    assert values(everything, "symbol", metric_name="market.price") == ["SOLUSDT"]
    assert values(everything, "symbol", prefix="BTC") == ["BTCEUR", "BTCUSDT"]
    assert values(everything, "event_type", prefix="weird %_\\") == ["weird %_\\ type"]
    assert values(everything, "event_type", prefix="%") == []
    assert values(everything, "asset") == ["EUR", "USD"]
    assert None in values(everything, "strategy_id")  # an order without one
    assert set(everything.get(values_path("symbol"))["values"]) == symbols  # the last 24 hours


def test_pages_of_values_neither_skip_nor_repeat(everything: Client) -> None:
    whole = values(everything, "strategy_id")
    found: list[str | None] = []
    cursor: dict[str, str] = {}
    for _ in whole:
        page = everything.get(values_path("strategy_id"), limit=1, **(cursor or ALL))
        found += page["values"]
        cursor = {"cursor": page.get("next_cursor", "")}
    assert (found, cursor) == (whole, {"cursor": ""})
    page = everything.get(values_path("symbol"), **ALL, limit=2, prefix="BTC")
    assert (page["values"], "next_cursor" in page) == (["BTCEUR", "BTCUSDT"], False)


def test_a_key_sees_the_values_of_its_own_events_alone(orders: Client, team: Client, account: Client) -> None:
    assert set(values(orders, "symbol")) == {"ADAUSDT", "BTCEUR", "BTCUSDT", "ETHUSDT"}
    assert values(orders, "event_type") == ["order.filled", "order.placed"]
    assert values(team, "strategy_id") == ["a", "c"]
    assert (values(account, "account_id"), values(account, "asset")) == (["x"], ["EUR"])
    for client, name in ((team, "symbol"), (orders, "asset"), (account, "event_type")):
        answer = client.request("GET", values_path(name), params=ALL)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:b25-analytics:problem:outside-key")


@pytest.mark.parametrize(
    ("name", "parameters", "status"),
    [
        ("colour", {}, 404),
        ("symbol'; DROP TABLE events; --", {}, 404),
        ("symbol", {"limit": "0"}, 400),
        ("symbol", {"limit": "abc"}, 400),
        ("symbol", {"cursor": "abc"}, 400),
        ("symbol", {"cursor": "WzEsMCwwLCJcIlx1MDAwMFwiIl0"}, 400),
        ("symbol", {"cursor": "WzEsMCwwLDVd"}, 400),
        ("symbol", {"cursor": "WzEsMCw5OTk5OTk5OTk5OTksIlwiYVwiIl0"}, 400),
        ("symbol", {"prefix": "a\0"}, 400),
        ("symbol", {"metric_name": "no.such"}, 400),
        ("symbol", {"metric_name": "users.active"}, 400),
        ("symbol", {"start_time": "1970-01-01T00:00:00Z"}, 400),
        ("symbol", {"start_time": "yesterday"}, 400),
    ],
)
def test_wrong_questions(everything: Client, name: str, parameters: dict[str, str], status: int) -> None:
    answer = everything.request("GET", values_path(name), params=parameters)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "DROP" not in answer.text


def test_values_are_read_from_an_index_that_holds_all_of_it(database: str) -> None:
    """The register's key has all its columns, so no row of a table is looked up, whatever the table has grown to."""
    with connect(database, name="test", autocommit=True) as connection:
        found = connection.execute(
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'metric_series'::regclass"
        ).fetchall()
    assert any("(day, metric_id, dimension_set, dimensions)" in text for [text] in found)
