"""The marts: their tables, and what dbt makes of raw events."""

import re
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml

from analytics_pipeline.settings import project_file
from analytics_pipeline.storage.connection import Connection
from tests.integration.landed import Event, land, order
from tests.integration.marts import build_marts, document_marts, let_time_pass, merge_all

HOUR = timedelta(hours=1)
TEST = "order_analytics_misses_no_order"
MARTS = ("order_analytics", "market_analytics", "user_behavior", "strategy_performance")

# Written apart from the model, row by row instead of in sets: the two must agree.
EXPECTED = """
SELECT o.order_id,
    (SELECT user_id FROM events WHERE properties ->> 'order_id' = o.order_id AND user_id IS NOT NULL
     ORDER BY timestamp, id LIMIT 1),
    (SELECT (properties ->> 'quantity')::numeric FROM events WHERE properties ->> 'order_id' = o.order_id
        AND event_type LIKE 'order.%%' AND jsonb_typeof(properties -> 'quantity') = 'number'
     ORDER BY timestamp, id LIMIT 1),
    (SELECT (properties ->> 'price')::numeric FROM events WHERE properties ->> 'order_id' = o.order_id
        AND event_type LIKE 'order.%%' AND jsonb_typeof(properties -> 'price') = 'number'
     ORDER BY timestamp, id LIMIT 1),
    (SELECT coalesce(sum((properties ->> 'quantity')::numeric), 0) FROM events
     WHERE properties ->> 'order_id' = o.order_id AND event_type = 'order.filled'),
    (SELECT max((properties ->> 'latency_ms')::float8) FROM events
     WHERE properties ->> 'order_id' = o.order_id AND event_type = 'order.filled'),
    (SELECT sum((properties ->> 'commission')::numeric) FROM events
     WHERE properties ->> 'order_id' = o.order_id AND event_type = 'order.filled'),
    (SELECT min(timestamp) FROM events WHERE properties ->> 'order_id' = o.order_id AND event_type LIKE 'order.%%'),
    CASE
        WHEN EXISTS (SELECT FROM events WHERE properties ->> 'order_id' = o.order_id AND event_type = 'order.rejected')
            THEN 'rejected'
        WHEN EXISTS (SELECT FROM events WHERE properties ->> 'order_id' = o.order_id AND event_type = 'order.canceled')
            THEN 'canceled'
        WHEN EXISTS (SELECT FROM events WHERE properties ->> 'order_id' = o.order_id AND event_type = 'order.filled')
            THEN 'filled'
        ELSE 'placed'
    END
FROM (SELECT DISTINCT properties ->> 'order_id' AS order_id FROM events
      WHERE event_type LIKE 'order.%%' AND properties ->> 'order_id' IS NOT NULL) AS o
ORDER BY 1
"""
ACTUAL = """
SELECT order_id, user_id, quantity, price, filled_quantity, latency_ms, commission, timestamp, status
FROM order_analytics ORDER BY order_id
"""


def fill_marts() -> dg.ExecuteInProcessResult:
    """The job, as Dagster runs it."""
    from analytics_pipeline.definitions import definitions

    with dg.DagsterInstance.ephemeral() as instance:
        return definitions.resolve_job_def("marts").execute_in_process(
            instance=instance, raise_on_error=False
        )


def rows(db: Connection, query: str) -> list[tuple[Any, ...]]:
    return db.execute(query.replace("%%", "%")).fetchall()


def closing(event_type: str, order_id: str, at: datetime) -> Event:
    return Event(event_type, at, {"order_id": order_id, "symbol": "BTCUSDT", "reason": "risk"}, user_id="u1")


def test_order_analytics_equals_sql_on_raw_also_after_late_events(db, now):
    before_midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(seconds=2)
    events = [
        *order("filled", now - 2 * HOUR),
        *order("spans-hours", now - 3 * HOUR, filled_after=2 * HOUR),
        *order("spans-days", before_midnight, filled_after=timedelta(seconds=4)),
        *order("open", now - HOUR, filled_after=None),
        *order("canceled", now - HOUR, filled_after=None),
        closing("order.canceled", "canceled", now - HOUR + timedelta(seconds=3)),
        *order("rejected", now - HOUR, filled_after=None),
        closing("order.rejected", "rejected", now - HOUR),
        Event("order.placed", now - HOUR, {"order_id": "no numbers", "quantity": "5", "price": None}),
        Event("order.placed", now - HOUR, {"symbol": "no order"}),
        Event("page.view", now - HOUR, {"order_id": "not an order"}),
    ]
    land(db, events)
    assert build_marts("run", "order_analytics")
    assert rows(db, ACTUAL) == rows(db, EXPECTED)
    assert len(rows(db, ACTUAL)) == 7

    merge_all(db)
    let_time_pass(db)
    land(db, order("other", now - timedelta(days=1)))
    assert build_marts("run", "order_analytics")
    assert rows(db, ACTUAL) == rows(db, EXPECTED)

    let_time_pass(db)
    land(db, order("open", now - HOUR)[1:])
    late = closing("order.canceled", "spans-hours", now - timedelta(hours=20))
    land(db, [late, *order("filled", now - 2 * HOUR)[1:]])
    assert build_marts("run", "order_analytics")
    assert rows(db, ACTUAL) == rows(db, EXPECTED)
    assert len(rows(db, ACTUAL)) == 8
    [(status, first)] = rows(
        db, "SELECT status, timestamp FROM order_analytics WHERE order_id = 'spans-hours'"
    )
    assert (status, first) == ("canceled", late.timestamp)


@pytest.mark.slow
def test_one_job_fills_all_marts_and_their_tests_are_checks_of_the_assets(db, now):
    seen = Event("page.view", now - HOUR, {}, user_id="u1", session_id="s1")
    land(db, [*order("one", now - timedelta(minutes=20)), seen])
    done = fill_marts()
    assert done.success
    for mart in MARTS:
        assert rows(db, f"SELECT count(*) > 0 FROM {mart}") == [(True,)], mart
        checks = [each for each in done.get_asset_check_evaluations() if each.asset_key.path == [mart]]
        assert len(checks) >= 3, mart
        assert all(each.passed for each in checks), mart
    assert rows(db, "SELECT orders_placed_1h FROM dashboard_metrics") == [(1,)]
    [shown] = [
        each
        for each in done.get_asset_materialization_events()
        if each.asset_key.path == ["dashboard_metrics"]
    ]
    assert shown.materialization.metadata["orders_placed_1h"].value == 1
    db.execute(
        "INSERT INTO order_analytics (order_id, status, timestamp) VALUES ('one', 'x', now()), (' ', 'x', now())"
    )
    assert not build_marts("test", "order_analytics")


def test_marts_descend_from_events_and_from_the_rollups_that_say_which_minutes_changed(db):
    from analytics_pipeline.definitions import definitions

    graph = definitions.resolve_asset_graph()
    for mart in (*MARTS, "dashboard_metrics"):
        parents = {key.to_user_string() for key in graph.get(dg.AssetKey(mart)).parent_keys}
        assert parents == {"events", "metric_rollups_1m"}, mart


@pytest.mark.slow
def test_the_docs_of_dbt_know_every_column_of_the_marts(db):
    nodes = document_marts()["nodes"]
    for mart in MARTS:
        found = rows(db, f"SELECT column_name FROM information_schema.columns WHERE table_name = '{mart}'")
        assert nodes[f"model.analytics.{mart}"]["columns"].keys() == {name for [name] in found}


@pytest.mark.slow
@pytest.mark.parametrize("mart", MARTS)
def test_every_column_is_described_and_no_other(db, mart):
    found = rows(
        db,
        f"SELECT column_name FROM information_schema.columns WHERE table_name = '{mart}'"
        " AND column_name NOT IN ('id', 'created_at')",
    )
    text = (project_file("dbt_models") / "models" / "marts" / f"{mart}.yml").read_text()
    [model] = yaml.safe_load(text)["models"]
    described = {column["name"]: column["description"] for column in model["columns"]}
    assert described.keys() == {name for [name] in found}
    assert all(described.values())


@pytest.mark.slow
def test_a_number_too_near_to_zero_for_a_double_is_no_obstacle(db, now):
    land(db, [Event("order.filled", now - HOUR, {"order_id": "tiny", "latency_ms": 1e-300, "pnl": 1e-300})])
    db.execute("UPDATE events SET properties = properties || '{\"latency_ms\": 1e-500}'::jsonb")
    assert build_marts("run", "order_analytics")
    assert rows(db, "SELECT latency_ms, pnl FROM order_analytics") == [(0, 0)]


@pytest.mark.slow
def test_values_that_do_not_fit_are_left_out_or_cut_and_the_table_keeps_its_shape(db, now):
    shape = (
        "SELECT attname, atttypid, atttypmod FROM pg_attribute"
        " WHERE attrelid = 'order_analytics'::regclass ORDER BY attnum"
    )
    before = rows(db, shape)
    wild = {"symbol": "s" * 900, "side": "B" * 900, "price": 1e300, "quantity": 10**17, "is_maker": "yes"}
    land(
        db,
        [
            Event("order.placed", now - HOUR, {"order_id": "x" * 256, **wild}),
            Event("order.placed", now - HOUR, {"order_id": "", **wild}),
            Event(
                "order.filled",
                now - HOUR,
                {"order_id": "wild", **wild, "latency_ms": 1e308, "pnl": "a"},
                "u" * 255,
            ),
        ],
    )
    assert build_marts("run", "order_analytics")
    [row] = rows(
        db,
        "SELECT order_id, length(symbol), length(side), price, quantity, latency_ms, pnl FROM order_analytics",
    )
    assert row == ("wild", 255, 50, None, 10**17, None, None)
    assert rows(db, shape) == before


@pytest.mark.slow
def test_orders_that_began_before_the_raw_floor_stay_as_they_are(db, now):
    land(db, order("old", now - timedelta(days=1), filled_after=None))
    assert build_marts("run", "order_analytics")
    let_time_pass(db)
    before = rows(db, "SELECT * FROM order_analytics")
    db.execute("UPDATE retention_state SET raw_floor = %s", (now - HOUR,))
    land(db, order("old", now)[1:])
    assert build_marts("run", "order_analytics")
    assert rows(db, "SELECT * FROM order_analytics") == before


@pytest.mark.slow
def test_a_full_refresh_rebuilds_no_mart_and_loses_no_row_of_events_that_are_gone(db, now):
    """`--full-refresh` is a run like any other: `full_refresh: false` in dbt_project.yml."""
    tables = "SELECT oid, relfilenode FROM pg_class WHERE relname = ANY(%s) AND relnamespace = 'public'::regnamespace"
    land(db, order("old", now - timedelta(days=1)))
    assert build_marts("run", *MARTS)
    let_time_pass(db)
    before = rows(db, "SELECT * FROM order_analytics")
    made = sorted(db.execute(tables, (list(MARTS),)).fetchall())
    assert (len(before), len(made)) == (1, len(MARTS))
    db.execute("DELETE FROM events")
    db.execute("UPDATE retention_state SET raw_floor = %s", (now - HOUR,))
    land(db, order("new", now))
    assert build_marts("run --full-refresh", *MARTS)
    assert sorted(db.execute(tables, (list(MARTS),)).fetchall()) == made
    assert rows(db, "SELECT * FROM order_analytics WHERE order_id = 'old'") == before
    assert rows(db, "SELECT count(*) FROM order_analytics") == [(2,)]


@pytest.mark.slow
def test_a_second_run_with_nothing_new_changes_nothing(db, now):
    land(db, order("one", now - HOUR))
    assert build_marts("run", "order_analytics")
    let_time_pass(db)
    before = rows(db, "SELECT * FROM order_analytics")
    assert build_marts("run", "order_analytics")
    assert rows(db, "SELECT * FROM order_analytics") == before


ORIGINAL = {
    "user_behavior": "user_id, session_id, session_start, session_end, duration, page_views, event_count,"
    " unique_event_types, properties",
    "order_analytics": "order_id, user_id, symbol, side, order_type, price, quantity, filled_quantity, status,"
    " strategy_id, latency_ms, is_maker, commission, pnl, timestamp",
    "strategy_performance": "strategy_id, strategy_name, time_bucket, interval, total_trades, winning_trades,"
    " losing_trades, total_pnl, gross_profit, gross_loss, avg_win, avg_loss, largest_win, largest_loss, win_rate,"
    " profit_factor, sharpe_ratio, max_drawdown, avg_latency_ms",
    "market_analytics": "symbol, time_bucket, interval, open, high, low, close, volume, trades_count, avg_spread,"
    " volatility",
    "system_metrics": "service_name, metric_type, time_bucket, value, dimensions",
}


@pytest.mark.slow
@pytest.mark.parametrize("table", ORIGINAL)
def test_plain_inserts_with_the_originals_columns_work(db, now, table):
    columns = ORIGINAL[table].split(", ")
    types = dict(
        db.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s", (table,)
        ).fetchall()
    )
    examples = {
        "timestamp with time zone": now,
        "character varying": "1m",
        "numeric": 1.5,
        "double precision": 1.5,
        "integer": 1,
        "bigint": 1,
        "boolean": True,
        "jsonb": "{}",
    }
    values = [examples[types[column]] for column in columns]
    marks = ", ".join(["%s"] * len(columns))
    db.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)
    [(identity, created)] = db.execute(f"SELECT id, created_at FROM {table}").fetchall()
    assert identity is not None
    assert created is not None


def test_market_analytics_takes_any_interval(db, now):
    for interval in ("1m", "1h", "4h"):
        db.execute(
            "INSERT INTO market_analytics (symbol, time_bucket, interval, open) VALUES ('BTCUSDT', %s, %s, 1)",
            (now, interval),
        )


def test_dashboard_metrics_shows_settled_and_pending_after_a_refresh(db, now):
    columns = "active_users, orders_placed_1h, orders_filled_1h, active_strategies"
    db.execute("SELECT refresh_dashboard_metrics();")
    assert rows(db, f"SELECT {columns} FROM dashboard_metrics") == [(0, 0, 0, 0)]
    land(db, order("one", now - timedelta(minutes=1)))
    land(db, order("two", now - timedelta(minutes=30), filled_after=None))
    db.execute("SELECT refresh_dashboard_metrics();")
    assert rows(db, f"SELECT {columns} FROM dashboard_metrics") == [(1, 2, 1, 1)]
    [(rate, updated)] = rows(db, "SELECT events_per_second, last_updated FROM dashboard_metrics")
    assert 0 <= rate <= 2 / 60
    assert updated >= now


def test_a_mart_of_a_time_without_partition_says_so(db):
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute("INSERT INTO order_analytics (order_id, timestamp) VALUES ('x', '2001-01-01')")


@pytest.mark.slow
def test_a_missing_order_is_found_at_once_however_many_there_are(db, now, monkeypatch):
    """The list of the mart's orders, read again for each event, would take minutes."""
    land(db, order("one", now - timedelta(minutes=20)))
    assert build_marts("run", "order_analytics")
    db.execute(
        "INSERT INTO order_analytics (order_id, status, timestamp)"
        " SELECT 'many ' || number, 'placed', now() FROM generate_series(1, 50000) AS number"
    )
    db.execute(
        "INSERT INTO events (event_type, properties, timestamp, created_at, source, source_partition, source_offset)"
        " SELECT 'order.placed', jsonb_build_object('order_id', nullif('many ' || number, 'many 48000')),"
        " now() - interval '30 minutes', now() - interval '30 minutes', 'orders', 0, 1000 + number"
        " FROM generate_series(48000, 50000) AS number"
    )
    db.execute("ANALYZE order_analytics")
    session = {"PGOPTIONS": "-c statement_timeout=3s -c work_mem=64kB"}
    monkeypatch.setattr("analytics_pipeline.defs.marts.resources._SESSION", session)
    assert build_marts("test", TEST)
    db.execute("DELETE FROM order_analytics WHERE order_id = 'many 50000'")
    assert not build_marts("test", TEST)
    db.execute(
        "INSERT INTO order_analytics (order_id, status, timestamp) VALUES ('many 50000', 'placed', now())"
    )
    session["PGOPTIONS"] = "-c statement_timeout=1ms"
    assert not build_marts("test", TEST)  # dbt's sessions have these options


def test_no_statement_of_dbt_runs_for_hours():
    from analytics_pipeline.defs.marts import resources

    [limit] = re.findall(r"statement_timeout=(\d+)min", resources.dbt_environment("host=x")["PGOPTIONS"])
    assert 10 <= int(limit) <= 60
