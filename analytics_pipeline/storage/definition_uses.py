"""What still needs a custom event definition, and keeps it from being deleted.

Belongs here: the statement. Does not belong here: deleting (the API), and changing definitions (`storage.definitions`).

All five levels of a metric move together and 1d is kept longest, so 1d tells whether there is data. Versions stay when
a definition goes: what lands, or was archived, with one of them still leads to its schema.
"""

from typing import NamedTuple

USES = """
WITH automatic AS MATERIALIZED (
    SELECT metric_name, metric_id FROM metric_versions
    WHERE event_types = ARRAY[%(name)s]::text[] AND metric_name ^@ ('custom.' || %(name)s::text || '.')
)
SELECT
    EXISTS (SELECT FROM events WHERE event_type = %(name)s),
    EXISTS (
        SELECT FROM dead_letter_events
        WHERE reason = 'schema_violation' AND status = 'open' AND event_type = %(name)s
    ),
    EXISTS (
        SELECT FROM automatic
        INNER JOIN metric_aggregations AS settled
            ON settled.metric_name = automatic.metric_name AND settled.metric_id = automatic.metric_id
        WHERE settled.interval = '1d'
    ) OR EXISTS (
        SELECT FROM automatic INNER JOIN rollup_deltas AS pending ON pending.metric_id = automatic.metric_id
    )
"""


class Uses(NamedTuple):
    """A row of `USES`.

    Attributes:
        events: events of the type are stored, with the versions that judged them.
        dead_letters: messages that it refused wait for a decision.
        metrics: its automatic metrics have data.
    """

    events: bool
    dead_letters: bool
    metrics: bool
