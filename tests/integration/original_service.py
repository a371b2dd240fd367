"""A database as the original service keeps it, what is in it, and imports from it.

`TABLES` are the columns, keys and partitions of the original's migration. Three of its tables cannot be made on any
Postgres, because the primary key of a partitioned table has to hold the column that it is partitioned by:
`order_analytics`, `market_analytics` and `system_metrics`, whose key is `id` alone. `AS_WRITTEN` has their keys as they
are there. Nothing else is changed, but that ids come from `gen_random_uuid()`, for which no extension is needed.
"""

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from analytics_pipeline.settings import Settings
from analytics_pipeline.storage import audit
from analytics_pipeline.storage.books import levels_against_raw
from analytics_pipeline.storage.connection import Connection, connection
from analytics_pipeline.storage.import_plan import Plan, plan
from analytics_pipeline.storage.import_runs import DayDone, Importer
from analytics_pipeline.storage.original import Original, connected
from tests.integration.landing_rig import check_books, rows

_ID = "id uuid DEFAULT gen_random_uuid()"
_CREATED = "created_at timestamptz NOT NULL DEFAULT now()"
_UPDATED = "updated_at timestamptz NOT NULL DEFAULT now()"


def _text(*names: str) -> str:
    return ", ".join(f"{name} varchar(255)" for name in names)


def _numbers(*names: str) -> str:
    return ", ".join(f"{name} double precision" for name in names)


_ORDERS = ", ".join(
    [
        _ID,
        _text("order_id", "user_id", "symbol", "side", "order_type", "status", "strategy_id"),
        _numbers("price", "quantity", "filled_quantity", "latency_ms", "commission", "pnl"),
        "is_maker boolean, timestamp timestamptz NOT NULL",
        _CREATED,
    ]
)
_MARKET = ", ".join(
    [
        _ID,
        "symbol varchar(50), time_bucket timestamptz NOT NULL, interval varchar(10), trades_count integer",
        _numbers("open", "high", "low", "close", "volume", "avg_spread", "volatility"),
        _CREATED,
    ]
)
_SYSTEM = ", ".join(
    [
        _ID,
        _text("service_name", "metric_type"),
        "time_bucket timestamptz NOT NULL, value double precision NOT NULL, dimensions jsonb DEFAULT '{}'",
        _CREATED,
    ]
)
AS_WRITTEN = {
    "order_analytics": f"CREATE TABLE order_analytics ({_ORDERS}, PRIMARY KEY (id)) PARTITION BY RANGE (timestamp)",
    "market_analytics": f"CREATE TABLE market_analytics ({_MARKET}, PRIMARY KEY (id)) PARTITION BY RANGE (time_bucket)",
    "system_metrics": f"CREATE TABLE system_metrics ({_SYSTEM}, PRIMARY KEY (id)) PARTITION BY RANGE (time_bucket)",
}
PARTITIONED_BY = {
    "order_analytics": "timestamp",
    "market_analytics": "time_bucket",
    "system_metrics": "time_bucket",
}
TABLES = [
    f"""
    CREATE TABLE events (
        {_ID}, event_type varchar(255) NOT NULL, {_text("user_id", "session_id")}, properties jsonb DEFAULT '{{}}',
        timestamp timestamptz NOT NULL, {_CREATED}, PRIMARY KEY (id, timestamp)
    ) PARTITION BY RANGE (timestamp)
    """,
    "CREATE INDEX idx_events_timestamp ON events (timestamp DESC)",
    "CREATE TABLE events_default PARTITION OF events DEFAULT",
    f"""
    CREATE TABLE metric_aggregations (
        {_ID}, metric_name varchar(255) NOT NULL, interval varchar(10) NOT NULL, time_bucket timestamptz NOT NULL,
        count bigint NOT NULL DEFAULT 0, {_numbers("sum", "avg", "min", "max", "p50", "p95", "p99")},
        dimensions jsonb DEFAULT '{{}}', {_CREATED}, PRIMARY KEY (metric_name, interval, time_bucket, id)
    ) PARTITION BY RANGE (time_bucket)
    """,
    "CREATE TABLE metric_aggregations_default PARTITION OF metric_aggregations DEFAULT",
    f"""
    CREATE TABLE custom_event_definitions (
        {_ID} PRIMARY KEY, name varchar(255) UNIQUE NOT NULL, display_name varchar(255) NOT NULL, description text,
        schema jsonb NOT NULL DEFAULT '{{}}', is_active boolean NOT NULL DEFAULT true, {_CREATED}, {_UPDATED}
    )
    """,
    f"""
    CREATE TABLE user_behavior (
        {_ID} PRIMARY KEY, {_text("user_id", "session_id")}, session_start timestamptz NOT NULL,
        session_end timestamptz, duration integer, page_views integer, event_count integer,
        unique_event_types integer, properties jsonb, {_CREATED}, {_UPDATED}
    )
    """,
    *(text.replace("(id)", f"(id, {PARTITIONED_BY[name]})") for name, text in AS_WRITTEN.items()),
    f"""
    CREATE TABLE strategy_performance (
        {_ID} PRIMARY KEY, {_text("strategy_id", "strategy_name")}, time_bucket timestamptz NOT NULL,
        interval varchar(10), total_trades integer, winning_trades integer, losing_trades integer,
        {_numbers("total_pnl", "gross_profit", "gross_loss", "win_rate", "sharpe_ratio")}, {_CREATED}
    )
    """,
    "CREATE MATERIALIZED VIEW dashboard_metrics AS SELECT count(*) AS events, now() AS last_updated FROM events",
]  # fmt: skip

_INSERT = """
INSERT INTO events (id, event_type, user_id, session_id, properties, timestamp, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
EVENTS = "SELECT id, event_type, user_id, session_id, coalesce(properties, '{}')::text, timestamp FROM events"

Event = tuple[UUID, str, str | None, str | None, str | None, datetime, datetime]
"""As their `events` has it; properties as JSON text."""


def today() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def past(days: int) -> datetime:
    """The start of a day: today's, where it has none yet, would be in the future."""
    return today() - timedelta(days=days)


def create_tables(conninfo: str) -> None:
    with psycopg.connect(conninfo) as opened:
        for statement in TABLES:
            opened.execute(statement)


def store(conninfo: str, events: Iterable[Event]) -> None:
    """As the original would."""
    with psycopg.connect(conninfo) as opened, opened.cursor() as cursor:
        cursor.executemany(_INSERT, list(events))


def event(
    rng: random.Random, at: datetime, event_type: str = "order.placed", properties: Any = None, **fields: Any
) -> Event:
    """An event that the original has from Kafka: its id is one of the original's own."""
    if properties is None:
        properties = {"symbol": rng.choice(["BTCUSDT", "ÉTH"]), "price": rng.randint(1, 9) / 8, "quantity": 2}
    text = properties if isinstance(properties, str) else json.dumps(properties)
    return (
        UUID(int=rng.getrandbits(128), version=4),
        event_type,
        fields.get("user_id", f"user-{rng.randint(1, 9)}"),
        fields.get("session_id"),
        text,
        at,
        fields.get("created_at", at + timedelta(milliseconds=20)),
    )


TYPES = ["order.placed", "order.filled", "market.data.update", "page.view", "their.own.type"]


def history(rng: random.Random, count: int, days: Iterable[int]) -> list[Event]:
    """That many events in two hours of each of the days so many days ago."""
    return [
        event(
            rng,
            past(day) + timedelta(microseconds=rng.randrange(5_400_000_000, 12_000_000_000)),
            rng.choice(TYPES),
            session_id=rng.choice([None, "", "s-1"]),
            user_id=rng.choice([None, "", "user-1", 'a "quoted", name\\']),
        )
        for day in days
        for _ in range(count)
    ]


def settings_of(ours: str, **sections: Any) -> Settings:
    base = {
        "database": {"url": ours},
        "kafka": {"enabled": False},
        "analytics": {"retention": {"raw_events": "2d"}},
    }
    return Settings.model_validate(base | sections)


@contextmanager
def both(ours: str, theirs: str) -> Iterator[tuple[Connection, Original]]:
    with connection(ours, name="import-test", autocommit=True) as opened, connected(theirs) as original:
        yield opened, original


def planned(ours: str, theirs: str, settings: Settings | None = None, **range_: Any) -> Plan:
    wanted = {"first": None, "end": None} | range_
    with both(ours, theirs) as (opened, original):
        return plan(opened, original, settings or settings_of(ours), now=datetime.now(UTC), **wanted)


def run_import(
    ours: str, theirs: str, *, batch_size: int = 100, settings: Settings | None = None, **range_: Any
) -> list[DayDone]:
    found = settings or settings_of(ours)
    with both(ours, theirs) as (opened, original):
        importer = Importer(opened, original, found, live_first=lambda _seconds: None, batch_size=batch_size)
        wanted = {"first": None, "end": None} | range_
        return list(importer.run(plan(opened, original, found, now=datetime.now(UTC), **wanted)))


def multiset(conninfo: str, statement: str = EVENTS) -> Counter[tuple[Any, ...]]:
    return Counter(rows(conninfo, statement))


def check_everything(ours: str) -> None:
    """The books, the proof of the ledger, and every interval of the rollups against raw events."""
    check_books(ours)
    with connection(ours, name="import-test", autocommit=True) as opened:
        broken = [check.as_dict() for check in audit.verify(opened) if not check.holds]
        assert broken == []
        for (hour,) in rows(ours, "SELECT DISTINCT date_trunc('hour', timestamp, 'UTC') FROM events"):
            for level in levels_against_raw(opened, hour):
                assert level.counted == level.raw, (hour, level)
    days = """
    SELECT (date_trunc('day', timestamp, 'UTC')) AS day, count(*) FROM events GROUP BY 1
    EXCEPT
    SELECT time_bucket, sum(count)::bigint FROM metrics_live
    WHERE interval = '1d' AND metric_name = 'events.count' AND dimension_set = '' GROUP BY 1
    """
    assert rows(ours, days) == []
