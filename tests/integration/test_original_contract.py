"""The original service's endpoints, field by field: exactly these names, of these kinds, so that its clients go on."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from tests.integration.api_support import Api, event, iso, land, running, settings_for
from tests.integration.databases import database_copy

V1 = "/api/v1"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
DURATION = r"(\d+h)?(\d+m)?(\d+(\.\d+)?(ns|µs|ms|s))?"
NUMBER, WHOLE, FLAG, OBJECT = "number", "whole", "flag", "object"
PROBLEM = {"type", "title", "status", "detail", "error", "request_id"}


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    with database_copy(postgres, template_database, "original_contract") as copied:
        yield copied


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    now = datetime.now(UTC)
    minutes = [now - timedelta(minutes=n) for n in range(130)]
    land(
        database,
        [event("order.placed", at, "user123", symbol="BTCUSDT", price=50_000, quantity=0.1) for at in minutes]
        + [event("order.filled", minutes[3], None, strategy_id="s1", price=2, quantity=3, latency_ms=12.5)],
    )
    with running(settings_for(database)) as running_api:
        running_api.soon(lambda: running_api.get(f"{V1}/events/stats")["total_events"], 131)
        yield running_api


def differs(value: Any, form: Any, at: str = "$") -> list[str]:
    """Where a value has another form: fields and their kinds, texts by pattern, the first form for all elements."""
    if isinstance(form, dict):
        if not isinstance(value, dict) or value.keys() != form.keys():
            return [f"{at}: {value if not isinstance(value, dict) else sorted(value)}"]
        return [found for key, below in form.items() for found in differs(value[key], below, f"{at}.{key}")]
    if isinstance(form, list):
        if not isinstance(value, list) or not value:
            return [f"{at}: {value}"]
        return [found for n, one in enumerate(value) for found in differs(one, form[0], f"{at}[{n}]")]
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        NUMBER: is_whole or isinstance(value, float),
        WHOLE: is_whole,
        FLAG: isinstance(value, bool),
        OBJECT: isinstance(value, dict),
    }.get(form, isinstance(value, str) and re.fullmatch(form, value) is not None)
    return [] if fits else [f"{at}: {value}"]


def test_what_differs_is_seen() -> None:
    form = {"a": [{"b": NUMBER, "at": TIME}], "c": FLAG}
    right = {"a": [{"b": 1, "at": "2026-01-31T12:00:00Z"}], "c": True}
    assert differs(right, form) == []
    for wrong in (
        {**right, "d": 1}, {"a": right["a"]}, {**right, "c": 1}, {**right, "a": []},
        {**right, "a": [{"b": True, "at": "2026-01-31T12:00:00Z"}]}, {**right, "a": [{"b": 1, "at": "2026-01-31"}]},
    ):  # fmt: skip
        assert len(differs(wrong, form)) == 1


DEFINITION = {
    "id": UUID, "name": "custom.trading.signal", "display_name": "Trading Signal", "description": ".+",
    "schema": OBJECT, "is_active": FLAG, "version": WHOLE, "created_at": TIME, "updated_at": TIME,
}  # fmt: skip
HEALTH = {
    "status": "healthy", "database": "connected", "cache": "disabled", "service": "analytics", "timestamp": TIME,
}  # fmt: skip
EVENT = {"id": UUID, "event_type": ".+", "properties": OBJECT, "timestamp": TIME, "created_at": TIME}
BUCKET = {"state": "open|settling|final|restated", "revision": WHOLE, "pending": FLAG}
"""What a point says beyond the original's."""
READS: dict[str, Any] = {
    "/events?event_type=order.placed": {
        "events": [EVENT | {"user_id": "user123"}], "count": WHOLE, "start_time": TIME, "end_time": TIME,
        "next_cursor": ".+",
    },
    "/events?event_type=order.placed&limit=1000": {
        "events": [EVENT | {"user_id": "user123"}], "count": WHOLE, "start_time": TIME, "end_time": TIME,
    },
    "/events/stats": {
        "start_time": TIME, "end_time": TIME, "total_events": WHOLE,
        "by_type": {"order.placed": WHOLE, "order.filled": WHOLE},
    },
    "/metrics?metric_name=events.count.order.placed": {
        "cached": FLAG,
        "result": {
            "metric_name": "events.count.order.placed", "interval": "1h", "start_time": TIME, "end_time": TIME,
            "data_points": [{"timestamp": TIME, "value": NUMBER, "dimensions": {}} | BUCKET], "total_count": WHOLE,
            "aggregation": "count", "time_zone": "UTC", "precision": "exact", "relative_error": NUMBER,
        },
    },
    "/dashboard/metrics": {
        "active_users": WHOLE, "events_per_second": NUMBER, "orders_placed": WHOLE, "orders_filled": WHOLE,
        "active_strategies": WHOLE, "total_volume": NUMBER, "average_latency": NUMBER, "error_rate": NUMBER,
        "custom_metrics": OBJECT, "last_updated": TIME,
    },
    "/internal/ingestion-metrics": {
        "events_ingested": WHOLE, "events_failed": WHOLE, "batches_processed": WHOLE, "last_batch_size": WHOLE,
        "last_batch_duration": DURATION, "total_latency": DURATION,
    },
}  # fmt: skip


@pytest.mark.parametrize("address", READS)
def test_reads(api: Api, address: str) -> None:
    answer = api.request("GET", V1 + address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert differs(answer.json(), READS[address]) == []


def test_events_are_the_newest_hundred_of_a_day(api: Api) -> None:
    listed = api.get(f"{V1}/events")
    assert listed["count"] == len(listed["events"]) == 100
    times = [datetime.fromisoformat(one["timestamp"]) for one in listed["events"]]
    assert times == sorted(times, reverse=True)
    start, end = (datetime.fromisoformat(listed[key]) for key in ("start_time", "end_time"))
    assert end - start == timedelta(days=1)
    asked = {"start_time": iso(start), "end_time": iso(end), "event_type": "order.filled", "limit": 5}
    assert api.get(f"{V1}/events", **asked)["count"] == 1


def test_a_metric_that_does_not_exist(api: Api) -> None:
    answer = api.get(f"{V1}/metrics", metric_name="no.such.metric")
    assert (answer["result"]["data_points"], answer["result"]["total_count"]) == ([], 0)


def test_writes(api: Api) -> None:
    posted = api.request("POST", f"{V1}/events", json={"event_type": "page.view", "user_id": "user123"})
    assert (posted.status_code, posted.headers["content-type"]) == (201, "application/json")
    assert differs(posted.json(), {"success": FLAG, "event_id": UUID}) == []
    definition = {
        "name": "custom.trading.signal", "display_name": "Trading Signal", "description": "Custom trading signal event",
        "schema": {"properties": {"signal_strength": {"type": "number"}}}, "is_active": True,
    }  # fmt: skip
    made = api.request("POST", f"{V1}/custom-events", json=definition)
    assert (made.status_code, made.headers["content-type"]) == (201, "application/json")
    stored = {key: value for key, value in made.json().items() if key != "warnings"}
    assert differs(stored, DEFINITION) == []
    assert {key: made.json()[key] for key in definition} == definition
    assert api.get(f"{V1}/custom-events/custom.trading.signal") == stored
    api.request("DELETE", f"{V1}/custom-events/custom.trading.signal")
    # The original's clients send what they read: what only answers have is ignored.
    again = api.request("POST", f"{V1}/custom-events", json=stored)
    assert (again.status_code, again.json()["id"] != stored["id"]) == (201, True)


@pytest.mark.parametrize("path", ["/health", "/healthz", "/ready"])
def test_health(api: Api, path: str) -> None:
    assert differs(api.get(path), HEALTH) == []


@pytest.mark.parametrize(
    ("method", "address", "body", "status", "error", "more"),
    [
        ("POST", "/events", b"{", 400, "Invalid request body", {"reason", "path"}),
        ("POST", "/custom-events", b"{", 400, "Invalid request body", set()),
        ("GET", "/events?limit=0", None, 400, "Invalid limit parameter", {"parameter"}),
        ("GET", "/events?start_time=now", None, 400, "Invalid start_time format", {"parameter"}),
        ("GET", "/events?end_time=now", None, 400, "Invalid end_time format", {"parameter"}),
        ("GET", "/metrics", None, 400, "metric_name is required", {"parameter"}),
        ("GET", "/custom-events/nothing", None, 404, "Custom event not found", set()),
        ("GET", "/nothing", None, 404, "Not found", set()),
    ],
)
def test_errors_have_the_originals_field(
    api: Api, method: str, address: str, body: bytes | None, status: int, error: str, more: set[str]
) -> None:
    answer = api.request(method, V1 + address, content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    content = answer.json()
    assert content.keys() == PROBLEM | more
    assert (content["error"], content["title"], content["status"]) == (error, error, status)
    assert content["request_id"] == answer.headers["x-request-id"]


def test_a_client_above_its_limit(database: str) -> None:
    limited = settings_for(
        database, security={"allow_anonymous": True, "rate_limit": {"requests_per_minute": 60, "burst": 1}}
    )
    with running(limited, address="192.0.2.7") as remote:
        answers = [
            remote.request("GET", f"{V1}/events/stats", headers={"X-Request-ID": "mine"}) for _ in range(3)
        ]
    refused = answers[-1]
    assert answers[0].status_code == 200
    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
    assert refused.json().keys() == PROBLEM | {"retry_after"}
    assert (refused.json()["error"], refused.json()["retry_after"]) == ("rate limit exceeded", 1)
    assert (refused.headers["retry-after"], refused.headers["x-ratelimit-limit"]) == ("1", "1")
    assert [answer.headers["x-request-id"] for answer in answers] == ["mine"] * 3
    assert refused.headers["x-ratelimit-remaining"] == "0"
