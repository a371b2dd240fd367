"""Names of producers that the database has met.

Belongs here: whether a name is one of them. Does not belong here: what a producer sent (`storage.source_statistics`).
"""

from collections.abc import Sequence

from analytics_pipeline.storage.connection import Connection

_KNOWN = """
SELECT given.name FROM unnest(%s::text []) WITH ORDINALITY AS given (name, place)
WHERE given.name <> '' AND (
    EXISTS (SELECT FROM dead_letter_events WHERE producer = given.name)
    OR EXISTS (SELECT FROM source_statistics_live WHERE producer = given.name)
)
ORDER BY given.place
"""


def known_producers(connection: Connection, names: Sequence[str]) -> list[str]:
    """Those of some names, in their order, that a dead letter or source statistics have as producer."""
    return [name for (name,) in connection.execute(_KNOWN, (list(names),))]
