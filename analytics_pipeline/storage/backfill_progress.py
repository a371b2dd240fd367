"""How far backfills are that have not ended, as Postgres knows it, and which hours are being recomputed now.

Belongs here: looking. Does not belong here: the work and its progress (`storage.backfill`), forgetting what was given
up (`storage.forgotten_rows`).

A backfill that ends leaves nothing; a preview leaves what it found (`storage.backfill_previews`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from analytics_pipeline.rollups.catalog import REGISTER_ID, Catalog
from analytics_pipeline.storage import metric_versions
from analytics_pipeline.storage.backfill import metric_set_of
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.forgotten_rows import GIVEN_UP

_PROGRESS = """
WITH done AS (
    SELECT metric_set, count(*) AS hours, min(hour) AS first, max(hour) + interval '1 hour' AS last,
        min(done_at) AS began_at, max(done_at) AS done_at, array_agg(DISTINCT run_id) AS runs,
        range_agg(tstzrange(hour, hour + interval '1 hour')) AS done
    FROM backfill_progress GROUP BY metric_set
)
SELECT metric_set, hours, (
    SELECT (sum(extract(EPOCH FROM upper(span) - lower(span))) / 3600)::bigint
    FROM backfill_plans AS plan, unnest(plan.hours + done.done) AS span
    WHERE plan.metric_set = done.metric_set
), first, last, began_at, done_at, runs, EXISTS (
    SELECT FROM pg_stat_activity AS other
    WHERE other.datname = current_database() AND other.backend_start <= done.done_at
        AND other.application_name IN ('analytics-backfill', 'analytics-recompute-watch')
)
FROM done ORDER BY done_at DESC, metric_set
"""
_HOURS = """
SELECT locked.objid::bigint, worker.query_start
FROM pg_locks AS locked INNER JOIN pg_stat_activity AS worker ON locked.pid = worker.pid
WHERE locked.locktype = 'advisory' AND locked.objsubid = 2 AND locked.granted AND locked.classid = %s
    AND worker.datname = current_database() AND worker.application_name = 'analytics-recompute'
ORDER BY 1
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Progress:
    """What unfinished backfills of the same metrics have done.

    Attributes:
        metric_set: names the metrics and their versions.
        metrics: their names; None where they are several and not all, or an earlier definition.
        is_everything: whether they are the whole catalog.
        hours: done so far.
        total_hours: to be done, those that are done included; None where an earlier release began it.
        first: start of the first of them.
        last: end of the last of them.
        began_at: when the first was done.
        done_at: when the last was done.
        runs: their ids.
        is_running: a process that recomputes has been connected since before the last hour was done.
        given_up_at: when what was done is forgotten, if nothing more is; until then the same command does the rest.
    """

    metric_set: str
    metrics: list[str] | None
    is_everything: bool
    hours: int
    total_hours: int | None
    first: datetime
    last: datetime
    began_at: datetime
    done_at: datetime
    runs: list[str]
    is_running: bool

    @property
    def percent(self) -> float | None:
        """How much of it is done, 0 to 100."""
        return round(100 * self.hours / self.total_hours, 1) if self.total_hours else None

    @property
    def given_up_at(self) -> datetime:
        """See the class."""
        return self.done_at + GIVEN_UP


class Recomputing(NamedTuple):
    """An hour that is held by a recompute at this moment, for a backfill or a preview; of a day, its first."""

    hour: datetime
    since: datetime | None


def unfinished(connection: Connection, catalog: Catalog) -> list[Progress]:
    """Backfills that have not ended, the one that did something last first."""
    names = _named(connection, catalog)
    everything = metric_set_of(*_eras(connection, [*catalog.by_id, REGISTER_ID]))
    return [
        Progress(metric_set, names.get(metric_set), metric_set == everything, *rest)
        for metric_set, *rest in connection.execute(_PROGRESS).fetchall()
    ]


def recomputing(connection: Connection) -> list[Recomputing]:
    """Hours that are being recomputed now."""
    return [
        Recomputing(_EPOCH + timedelta(hours=hour), since)
        for hour, since in connection.execute(_HOURS, (Lock.HOUR,)).fetchall()
    ]


def _named(connection: Connection, catalog: Catalog) -> dict[str, list[str]]:
    """Names by metric set, of sets of one metric."""
    ids, eras = _eras(connection, list(catalog.by_id))
    return {metric_set_of([one], eras): [catalog.by_id[one].name] for one in ids}


def _eras(connection: Connection, ids: list[str]) -> tuple[list[str], dict[str, int]]:
    return ids, metric_versions.eras(connection, ids)
