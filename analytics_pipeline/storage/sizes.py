"""How large each family of tables is, and for how long something has stayed that retention should have removed.

Belongs here: the statements. Does not belong here: when to ask (`ingest.sizes`), removing anything
(`storage.retention`).

A family is a table, or what is partitioned by time under one name: `events`, `metric_aggregations_1m`. A day on its way
into the archive is still one of `events`. All of Dagster's tables are one family. So there are some fifty of them,
whatever the data; beyond `MOST`, which only somebody's own tables can bring about, the small ones are one more.
"""

from typing import NamedTuple

from analytics_pipeline.storage.connection import Connection

MOST = 80
DAGSTER, OTHER = "dagster", "other"

_SIZES = """
SELECT
    CASE
        WHEN namespace.nspname = %(dagster_schema)s THEN %(dagster)s
        ELSE coalesce(removal.parent, parent.relname::text, class.relname::text)
    END AS family,
    sum(pg_total_relation_size(class.oid))::bigint
FROM pg_class AS class
INNER JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
LEFT JOIN pg_inherits AS inherits ON inherits.inhrelid = class.oid
LEFT JOIN pg_class AS parent ON parent.oid = inherits.inhparent
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


class Sizes(NamedTuple):
    """Bytes with indexes by family, and seconds since when the oldest partition should be gone (0: none should)."""

    families: dict[str, int]
    overdue: float


def sizes(connection: Connection, *, dagster_schema: str) -> Sizes:
    """Measure; some ten milliseconds with the partitions of years.

    Args:
        connection: in autocommit.
        dagster_schema: where Dagster keeps its tables; it may be missing.
    """
    rows = connection.execute(_SIZES, {"dagster": DAGSTER, "dagster_schema": dagster_schema}).fetchall()
    families = dict(rows[:MOST])
    if rest := sum(size for _, size in rows[MOST:]):
        families[OTHER] = families.get(OTHER, 0) + rest
    return Sizes(families, overdue(connection))


def overdue(connection: Connection) -> float:
    """Seconds since when the oldest partition should be gone; 0: none should."""
    [(found,)] = connection.execute(_OVERDUE).fetchall()
    return float(found)
