"""How large each family of tables is, and for how long something has stayed that retention should have removed.

Belongs here: the statements. Does not belong here: when to ask (`ingest.measuring`), removing anything
(`storage.retention`).

A family is a table, or what is partitioned by time under one name: `events`, `metric_aggregations_1m`. A day on its way
into the archive is still one of `events`. All of Dagster's tables are one family. So there are some fifty of them,
whatever the data; beyond `MOST`, which only somebody's own tables can bring about, the small ones are one more.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.partitions import days_ahead

MOST = 80
DAGSTER, OTHER = "dagster", "other"

_SIZES = """
SELECT
    CASE
        WHEN namespace.nspname = %(dagster_schema)s THEN %(dagster)s
        ELSE coalesce(removal.parent, parent.relname::text, class.relname::text)
    END AS family,
    sum(pg_total_relation_size(class.oid))::bigint,
    coalesce(sum(rows.n_live_tup), 0)::bigint,
    coalesce(sum(rows.n_dead_tup), 0)::bigint
FROM pg_class AS class
INNER JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
LEFT JOIN pg_inherits AS inherits ON inherits.inhrelid = class.oid
LEFT JOIN pg_class AS parent ON parent.oid = inherits.inhparent
LEFT JOIN pg_stat_all_tables AS rows ON rows.relid = class.oid
LEFT JOIN retention_removals AS removal ON removal.partition = class.relname AND inherits.inhrelid IS NULL
WHERE class.relkind IN ('r', 'm') AND namespace.nspname IN (current_schema(), %(dagster_schema)s)
GROUP BY family ORDER BY 2 DESC, 1
"""
_OVERDUE = """
SELECT coalesce(max(greatest(0, extract(EPOCH FROM now() - known.upper_bound - policy.keep))), 0)::double precision
FROM (
    SELECT parent, upper_bound FROM time_partitions
    UNION ALL
    SELECT parent, upper_bound FROM retention_removals WHERE state <> 'dropped'
) AS known
INNER JOIN retention_policies AS policy ON policy.parent = known.parent
"""


class Family(NamedTuple):
    """Bytes with indexes; rows as the server's statistics estimate them."""

    bytes: int
    live_rows: int
    dead_rows: int


class Sizes(NamedTuple):
    """By family; days for which partitioned ones have partitions; and seconds since when the oldest partition should
    be gone (0: none should).
    """

    families: dict[str, Family]
    days_ahead: dict[str, float]
    overdue: float


def sizes(connection: Connection, *, dagster_schema: str) -> Sizes:
    """Measure; some ten milliseconds with the partitions of years.

    Args:
        connection: in autocommit.
        dagster_schema: where Dagster keeps its tables; it may be missing.
    """
    rows = connection.execute(_SIZES, {"dagster": DAGSTER, "dagster_schema": dagster_schema}).fetchall()
    families = {family: Family(*numbers) for family, *numbers in rows[:MOST]}
    if rest := [numbers for _, *numbers in rows[MOST:]]:
        known = families.get(OTHER, Family(0, 0, 0))
        families[OTHER] = Family(*map(sum, zip(known, *rest, strict=True)))
    return Sizes(families, days_ahead(connection, now=datetime.now(UTC)), overdue(connection))


def overdue(connection: Connection) -> float:
    """Seconds since when the oldest partition should be gone; 0: none should."""
    [(found,)] = connection.execute(_OVERDUE).fetchall()
    return float(found)
