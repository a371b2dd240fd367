"""Edited metrics: a second release, which definition answers a name in a bucket, and where events may be missing.

Belongs here: the rules of "Editing one" (docs/metrics.md), written down a second time, in plain SQL. Does not belong
here: what a definition says of the events (`naive`), registering and backfilling (`machine`).
"""

from dataclasses import replace
from datetime import datetime

from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog, Metric
from analytics_pipeline.storage import metric_versions
from analytics_pipeline.storage.connection import Connection, connection

_SUFFIX = "~edited"
_BEFORE = BUILT_IN.by_name
_EDITED: dict[str, Metric] = {
    edited.name: edited
    for edited in (
        replace(_BEFORE["trading.total_volume"], value="quantity"),
        replace(_BEFORE["trading.orders_placed"], event_types=("order.placed", "order.canceled")),
        replace(_BEFORE["trading.order_latency"], event_types=("order.filled", "order.rejected")),
        replace(_BEFORE["users.active"], value="session_id"),
    )
}
NAMES = sorted(_EDITED)
EDITED = Catalog(tuple(_EDITED.get(metric.name, metric) for metric in BUILT_IN.metrics))
"""The catalog of the next release; `naive` says what its metrics mean, under their names with `~edited`."""

CREATE = """
CREATE TABLE oracle.edits (metric_name text, metric_id text, said text PRIMARY KEY);

-- A clock that the machine sets: who puts this schema before pg_catalog sees it.
CREATE SCHEMA oracle_clock;
CREATE TABLE oracle_clock.time (at timestamptz NOT NULL);
INSERT INTO oracle_clock.time VALUES (now());
CREATE FUNCTION oracle_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$
SELECT at FROM oracle_clock.time
$$;
"""
# A name is answered by the newest version that is available when a bucket starts, and else by its first one.
_ANSWER = """
UPDATE oracle.expected AS wanted SET
    metric_name = edit.metric_name,
    metric_id = edit.metric_id,
    is_predecessor = version.superseded_at IS NOT NULL,
    is_incomplete = wanted.time_bucket < version.available_from
        OR wanted.time_bucket + width.seconds > coalesce(version.superseded_at, 'infinity')
        OR EXISTS (
            SELECT FROM metric_gaps AS gap
            WHERE gap.metric_id = edit.metric_id AND gap.hour < wanted.time_bucket + width.seconds
                AND gap.hour + interval '1 hour' > wanted.time_bucket
        )
FROM oracle.edits AS edit, metric_versions AS version,
    (SELECT interval, make_interval(secs => seconds) AS seconds FROM oracle.levels) AS width
WHERE edit.said = wanted.metric_name AND width.interval = wanted.interval
    AND version.metric_name = edit.metric_name AND version.metric_id = edit.metric_id
    AND NOT EXISTS (
        SELECT FROM metric_versions AS newer
        WHERE newer.metric_name = edit.metric_name AND newer.version > version.version
            AND newer.available_from <= wanted.time_bucket
    )
    AND (
        version.available_from <= wanted.time_bucket
        OR NOT EXISTS (
            SELECT FROM metric_versions AS older
            WHERE older.metric_name = edit.metric_name AND older.version < version.version
        )
    );
DELETE FROM oracle.expected USING oracle.edits
WHERE expected.metric_name = edits.said AND expected.metric_id IS NULL;
"""
_SEEN = """
SELECT DISTINCT CASE
    WHEN is_incomplete THEN 'incomplete'
    WHEN metric_id = ANY(%s) THEN 'answered by an edit'
    ELSE 'answered by what was before'
END FROM oracle.expected WHERE metric_id IS NOT NULL
"""


def create(main: Connection) -> None:
    """What the rules need, in a database that has `oracle` already."""
    main.execute(CREATE)
    for name in NAMES:
        for catalog, suffix in ((BUILT_IN, ""), (EDITED, _SUFFIX)):
            edit = (name, catalog.by_name[name].metric_id, name + suffix)
            main.execute("INSERT INTO oracle.edits VALUES (%s, %s, %s)", edit)


def register(conninfo: str, catalog: Catalog, clock: datetime) -> list[str]:
    """What an ingest process does when it starts, at this time."""
    with connection(
        conninfo, name="register", autocommit=True, search_path="oracle_clock,public,pg_catalog"
    ) as opened:
        opened.execute("UPDATE oracle_clock.time SET at = %s", (clock,))
        return metric_versions.register(opened, catalog.metrics)


def is_in_force(main: Connection, catalog: Catalog) -> bool:
    """Whether all names mean what this catalog says."""
    return in_force(main) == catalog.by_id.keys()


def in_force(main: Connection) -> set[str]:
    """The definitions that names have, by id."""
    found = main.execute("SELECT metric_id FROM metric_versions WHERE superseded_at IS NULL").fetchall()
    return {metric_id for [metric_id] in found}


def answer(main: Connection) -> set[str]:
    """Let `oracle.expected` be what the names mean now; which kinds of answers there are."""
    main.execute(_ANSWER)
    ids = [EDITED.by_name[name].metric_id for name in NAMES]
    return {kind for [kind] in main.execute(_SEEN, (ids,)).fetchall()}
