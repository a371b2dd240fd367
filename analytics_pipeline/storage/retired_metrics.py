"""The end of metrics that nobody declares any more: removed from the catalog, or with the definition they came from.

Belongs here: what running ingest processes say they compute, and retiring what none of them does. Does not belong
here: registering, and what a version answers for (`storage.metric_versions`).

A process that runs says so every `PERIOD`, so an old release beside a new one keeps what only it has. One that comes
back later, or that could not reach Postgres for long, registers its metrics again: a new version, as after an edit.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from analytics_pipeline.storage import metric_versions
from analytics_pipeline.storage.connection import Connection

PERIOD = timedelta(minutes=5)
"""How often a process declares its metrics."""
SILENCE = 3 * PERIOD
"""After so long without a word, no process has the metric."""

# A process that ended before its first word.
_ADOPT = """
INSERT INTO metric_declarations (metric_id, declared_at)
SELECT metric_id, max(declared_at) FROM metric_versions WHERE superseded_at IS NULL GROUP BY metric_id
ORDER BY metric_id
ON CONFLICT DO NOTHING
"""
# In one order, so that processes do not lock each other's rows by turns.
_DECLARE = """
INSERT INTO metric_declarations AS known (metric_id, declared_at)
SELECT declared.metric_id, clock_timestamp() FROM unnest(%s::text[]) AS declared (metric_id)
ORDER BY declared.metric_id
ON CONFLICT (metric_id) DO UPDATE SET declared_at = excluded.declared_at, undeclared_since = NULL
"""
_MISS = """
UPDATE metric_declarations AS known SET undeclared_since = clock_timestamp()
WHERE known.metric_id = ANY(ARRAY(
    SELECT lost.metric_id FROM metric_declarations AS lost
    WHERE lost.metric_id <> ALL(%s) AND lost.undeclared_since IS NULL AND lost.declared_at < clock_timestamp() - %s
    FOR UPDATE SKIP LOCKED
))
"""
_RETIRED_AMONG = """
SELECT DISTINCT newest.metric_id FROM metric_versions AS newest
WHERE newest.metric_id = ANY(%s) AND newest.retired_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM metric_versions AS later
    WHERE later.metric_name = newest.metric_name AND later.version > newest.version
)
"""
_DUE = """
SELECT version.metric_name, version.metric_id, date_trunc('minute', known.declared_at + %(silence)s)
FROM metric_versions AS version INNER JOIN metric_declarations AS known ON known.metric_id = version.metric_id
WHERE version.superseded_at IS NULL AND known.undeclared_since <= clock_timestamp() - %(after)s
ORDER BY version.metric_name
FOR UPDATE OF known
"""
_RETIRE = """
UPDATE metric_versions SET retired_at = %(until)s, superseded_at = clock_timestamp()
WHERE metric_id = %(metric_id)s AND superseded_at IS NULL
"""
# Of the day in which it ends it answers the 1d bucket whole.
_FORGET_GAPS = """
DELETE FROM metric_gaps
WHERE metric_id = %(metric_id)s AND hour >= date_trunc('day', %(until)s::timestamptz, 'UTC') + interval '1 day'
"""
_FORGET_DECLARATIONS = """
DELETE FROM metric_declarations AS known WHERE NOT EXISTS (
    SELECT FROM metric_versions AS version WHERE version.metric_id = known.metric_id AND version.superseded_at IS NULL
)
"""


class Retired(NamedTuple):
    """A metric that has ended; `until` is where its history ends."""

    name: str
    metric_id: str
    until: datetime


def declare(connection: Connection, metric_ids: Collection[str]) -> list[str]:
    """Say that a running process computes these metrics, and which others nobody says it of any more.

    Returns:
        Those of these metrics that were retired, because nobody said so for long: they are to be registered again.
    """
    ids = list(metric_ids)
    connection.execute(_ADOPT)
    connection.execute(_DECLARE, (ids,))
    connection.execute(_MISS, (ids, SILENCE))
    return [metric_id for [metric_id] in connection.execute(_RETIRED_AMONG, (ids,))]


def retire(connection: Connection, after: timedelta) -> list[Retired]:
    """End, in one transaction, the metrics that no process has declared for so long while others ran.

    What they have stays, and answers for the time before; gaps of the time after go, and no landing notes new ones.
    A metric that is declared again is a new version of its name, available from then on.

    Args:
        connection: in autocommit.
        after: since a running process first found that none has the metric.

    Raises:
        EnvironmentFault: landings held the floor all the time; try again.
    """
    if not connection.execute(_DUE, {"after": after, "silence": SILENCE}).fetchall():
        return []
    return metric_versions.between_landings(connection, lambda: _retire(connection, after))


def _retire(connection: Connection, after: timedelta) -> list[Retired]:
    due = [Retired(*row) for row in connection.execute(_DUE, {"after": after, "silence": SILENCE})]
    for one in due:
        connection.execute(_RETIRE, one._asdict())
        connection.execute(_FORGET_GAPS, one._asdict())
    connection.execute(_FORGET_DECLARATIONS)
    return due
