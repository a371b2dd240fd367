"""Previews of backfills: what would change is compared and told, and how far it is stands in Postgres for others.

Belongs here: that line of each preview. Does not belong here: comparing (`storage.backfill`), forgetting old lines
(`storage.forgotten_rows`).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from analytics_pipeline.rollups.catalog import REGISTER_ID
from analytics_pipeline.rollups.compare import Difference
from analytics_pipeline.storage.backfill import Plan, recompute
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.recompute import RecomputeResult

MOST_CHANGES = 100
"""Rows that a preview keeps of those that differ; who asked for it is told all of them."""
MOST_PREVIEWS = 50
"""Previews that are listed."""
_TOLD = 24
"""Empty hours after which it is noted how far a preview is: each takes less than the note."""

_BEGIN = """
INSERT INTO backfill_previews (run_id, metrics, first, last, total_hours, backend, backend_start)
SELECT %s, %s, %s, %s, %s, pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()
ON CONFLICT (run_id) DO UPDATE SET
    metrics = excluded.metrics, first = excluded.first, last = excluded.last, total_hours = excluded.total_hours,
    hours = 0, events = 0, differences = '{}', changes = '[]', began_at = clock_timestamp(),
    updated_at = clock_timestamp(), ended_at = NULL, backend = excluded.backend,
    backend_start = excluded.backend_start
"""
_COMPARED = """
UPDATE backfill_previews
SET hours = %s, events = %s, differences = %s, changes = %s, updated_at = clock_timestamp()
WHERE run_id = %s
"""
_ENDED = "UPDATE backfill_previews SET ended_at = clock_timestamp() WHERE run_id = %s"
_LIST = """
SELECT run_id, metrics, first, last, total_hours, hours, events, differences, changes, began_at, updated_at, ended_at,
    EXISTS (
        SELECT FROM pg_stat_activity AS other
        WHERE other.pid = preview.backend AND other.backend_start = preview.backend_start
    ) AS is_connected
FROM backfill_previews AS preview ORDER BY updated_at DESC, run_id LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Preview:
    """A dry run of a backfill.

    Attributes:
        run_id: the run in Dagster, or what the command called itself.
        metrics: names; None for all of the catalog.
        first: start of the first hour.
        last: end of the last hour.
        total_hours: to be compared.
        hours: compared so far.
        events: raw events of these.
        differences: how many rows of each interval differ, by interval.
        changes: `MOST_CHANGES` of those at 1h, or at 1d where a day has no hours any more; see `plain`.
        began_at: when it began.
        updated_at: when the last hour was compared.
        ended_at: when all was compared.
        is_connected: whether the connection that writes this is still there.
    """

    run_id: str
    metrics: list[str] | None
    first: datetime
    last: datetime
    total_hours: int
    hours: int
    events: int
    differences: dict[str, int]
    changes: list[dict[str, Any]]
    began_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    is_connected: bool

    @property
    def state(self) -> str:
        """`completed`, `running`, or `interrupted`, which is begun anew."""
        if self.ended_at is not None:
            return "completed"
        return "running" if self.is_connected else "interrupted"

    @property
    def percent(self) -> float:
        """How much of it is done, 0 to 100."""
        return round(100 * self.hours / max(1, self.total_hours), 1)


def preview(
    connection: Connection,
    conninfo: str,
    planned: Plan,
    *,
    run_id: str,
    before_hour: Callable[[], None],
    skipped: Callable[[datetime], None] = lambda _hour: None,
) -> Iterator[RecomputeResult]:
    """Compare hour by hour what a backfill would write with what is served; no metric is changed.

    Args:
        connection: an autocommit connection that stays for as long as this runs; it notes how far it is.
        conninfo: where the database is.
        planned: what to compare.
        run_id: names the preview.
        before_hour: called before each hour; may wait (`LiveFirst`).
        skipped: told of each hour that is left out, because its raw events went meanwhile.
    """
    hours = events = 0
    differences: Counter[str] = Counter()
    changes: list[dict[str, Any]] = []

    def skip(hour: datetime) -> None:
        nonlocal hours
        hours += 1
        skipped(hour)

    total = len(planned.hours)
    connection.execute(_BEGIN, (run_id, _names(planned), planned.first, planned.end, total))
    for result in recompute(
        conninfo, planned, run_id=run_id, before_hour=before_hour, write=False, skipped=skip
    ):
        hours, events = hours + result.hours, events + result.events
        differences.update(one.interval for one in result.differences)
        shown_at = "1h" if result.hours == 1 else "1d"
        listed = [one for one in result.differences if one.interval == shown_at]
        changes += [plain(one) for one in listed[: MOST_CHANGES - len(changes)]]
        if not result.is_empty or hours % _TOLD == 0 or hours == total:
            connection.execute(
                _COMPARED, (hours, events, Jsonb(differences), Jsonb(changes, dumps=_dumps), run_id)
            )
        yield result
    connection.execute(_ENDED, (run_id,))


def plain(difference: Difference) -> dict[str, Any]:
    """A row that differs, for JSON, but for its time."""
    return {
        "interval": difference.interval,
        "time_bucket": difference.time_bucket,
        "metric_name": difference.metric_name,
        "dimensions": json.loads(difference.dimensions),
        "old": difference.value_before,
        "new": difference.value_after,
        "difference": difference.change,
    }


def previews(connection: Connection) -> list[Preview]:
    """The last `MOST_PREVIEWS`, the one that did something last first."""
    with connection.cursor(row_factory=class_row(Preview)) as cursor:
        return cursor.execute(_LIST, (MOST_PREVIEWS,)).fetchall()


_dumps = partial(json.dumps, default=lambda time: f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")


def _names(planned: Plan) -> list[str] | None:
    if REGISTER_ID in planned.metric_ids:
        return None
    return [planned.catalog.by_id[one].name for one in planned.metric_ids]
