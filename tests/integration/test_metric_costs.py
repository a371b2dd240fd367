"""What a question about one series costs beside hundreds of others: an index alone answers it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from tests.integration.api_support import Api, event, iso, land, running, settings_for, settle
from tests.integration.databases import database_copy
from tests.waiting import wait_for

HOUR = (datetime.now(UTC) - timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
SYMBOLS = 60
QUESTIONS = [
    ("events.count", "count"),
    ("trading.total_volume", "sum"),
    ("trading.order_latency", "p99"),
    ("trading.order_latency", "max"),
]
READS = """
SELECT sum(idx_scan)::bigint, sum(heap_blks_read + heap_blks_hit)::bigint
FROM pg_stat_user_tables INNER JOIN pg_statio_user_tables USING (relid)
WHERE starts_with(pg_stat_user_tables.relname, 'metric_aggregations_1m')
"""


class Reads(NamedTuple):
    """How often an index of the 1m rollups was searched, and how many pages of their tables were looked at."""

    scans: int
    pages: int


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    """An hour of fills, each minute one for each symbol."""
    with database_copy(postgres, template_database, "metric_costs") as copied:
        filled = {"side": "BUY", "price": 10, "quantity": 1, "strategy_id": "s", "latency_ms": 5}
        land(
            copied,
            [
                event("order.filled", HOUR + timedelta(minutes=minute), symbol=f"S{symbol}", **filled)
                for minute in range(60)
                for symbol in range(SYMBOLS)
            ],
        )
        settle(copied)
        with psycopg.connect(copied, autocommit=True) as opened:
            opened.execute("ANALYZE metric_aggregations")
            wait_for(lambda: is_visible_to_all(opened), 20, "vacuum")
        yield copied


def is_visible_to_all(opened: psycopg.Connection[Any]) -> bool:
    """Vacuum, and say whether nobody is left who might not see the rows: then an index alone may answer."""
    opened.execute("VACUUM metric_aggregations")
    row = opened.execute(
        "SELECT sum(relpages) > 0 AND sum(relpages) = sum(relallvisible) FROM pg_class"
        " WHERE starts_with(relname, 'metric_aggregations_1m_p') AND relkind = 'r'"
    ).fetchone()
    return bool(row and row[0])


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    settings = settings_for(
        database, analytics={"query": {"cache_enabled": False}}, security={"rate_limit": {"enabled": False}}
    )
    with running(settings) as running_api:
        yield running_api


def reads(opened: psycopg.Connection[Any]) -> Reads:
    row = opened.execute(READS).fetchone()
    assert row is not None
    return Reads(*row)


@pytest.mark.slow
def test_the_table_is_not_looked_at(api: Api, database: str) -> None:
    """One test for all: sessions say what they have read once they have been idle for ten seconds."""
    asked = {"interval": "1m", "start_time": iso(HOUR), "end_time": iso(HOUR + timedelta(seconds=3599))}
    with psycopg.connect(database, autocommit=True) as opened:
        before = reads(opened)
        for metric, aggregation in QUESTIONS:
            answer = api.get("/api/v1/metrics", metric_name=metric, aggregation=aggregation, **asked)
            assert answer["result"]["total_count"] == 60
        wait_for(lambda: reads(opened).scans >= before.scans + len(QUESTIONS), 25, "Postgres' statistics")
        assert reads(opened).pages - before.pages <= 3 * len(
            QUESTIONS
        )  # of 60 minutes each, on as many pages
