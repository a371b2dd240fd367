"""What the dashboard costs when much is pending: it reads the totals of its windows, and passes over nothing else."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.sql import SQL

from analytics_pipeline.rollups.catalog import BUILT_IN, dimension_set_name
from api.dashboard import repository
from api.dashboard.repository import Parts
from api.dashboard.schemas import Windows
from api.metrics.service import MetricService

BATCHES = 40
SERIES = 20
PENDING = """
INSERT INTO rollup_deltas (
    hour, batch_id, minute, metric_id, metric_name, dimension_set, dimensions, kind, count, sum, min, max, state
)
SELECT date_trunc('hour', minute), batch, minute, metric_id, metric_name, dimension_set, dimensions, kind, 1, 1, 1, 1,
    CASE WHEN kind = 'distinct' THEN '\\x0100'::bytea END
FROM generate_series(date_trunc('minute', now()) - interval '2 minutes', now(), '1 minute') AS minute,
    generate_series(1, %s) AS batch, series
ORDER BY minute, batch, dimension_set
"""


def fill(database: str) -> None:
    """Three minutes of many batches with many series."""
    series = [
        (
            metric.metric_id,
            metric.name,
            dimension_set_name(names),
            json.dumps(dict.fromkeys(names, f"v{number}")),
            metric.kind,
        )
        for metric in BUILT_IN.metrics
        for names in metric.dimension_sets
        for number in range(SERIES if names else 1)
    ]
    with psycopg.connect(database, autocommit=True, options="-c timezone=UTC") as connection:
        connection.execute(
            "CREATE TEMP TABLE series (metric_id text, metric_name text, dimension_set text, dimensions jsonb,"
            " kind text)"
        )
        connection.cursor().executemany("INSERT INTO series VALUES (%s, %s, %s, %s, %s)", series)
        connection.execute(PENDING, (BATCHES,))


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for one in plan.get("Plans", ()):
        yield from nodes(one)


def explained(connection: psycopg.Connection[Any], read: Parts, windows: Windows) -> Any:
    statement = SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + repository._DASHBOARD
    [[[found]]] = connection.execute(statement, repository._parameters(windows, read)).fetchall()
    return found["Plan"]


def test_only_totals_of_its_metrics_are_read(database: str) -> None:
    fill(database)
    windows = Windows(datetime.now(UTC).replace(microsecond=0))
    read = Parts.of(BUILT_IN, MetricService(), windows)
    wanted = len(read.summed) + len(read.distinct)
    with psycopg.connect(database, autocommit=True, options="-c timezone=UTC -c jit=off") as connection:
        for statistics in ("SELECT 1", "ANALYZE rollup_deltas"):  # they change what the planner does
            connection.execute(statistics)
            plan = explained(connection, read, windows)
            pending = [one for one in nodes(plan) if one.get("Relation Name") == "rollup_deltas"]
            assert len(pending) == 2
            assert {one["Node Type"] for one in pending} <= {"Index Scan", "Bitmap Heap Scan"}
            assert sum(one.get("Rows Removed by Filter", 0) for one in pending) == 0
            assert (
                0 < sum(one["Actual Rows"] * one["Actual Loops"] for one in pending) <= wanted * BATCHES * 4
            )
            # Of each metric one row comes: states of all batches stand one behind another in it.
            assert plan["Actual Rows"] == wanted
