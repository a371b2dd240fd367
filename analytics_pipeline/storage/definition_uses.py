"""What still needs a custom event definition, and keeps it from being deleted.

Belongs here: the statements of a deletion, and the rule. Does not belong here: carrying it out, for commands in
`storage.definitions`, for REST in the API, which also checks what its caller expects.

All five levels of a metric move together and 1d is kept longest, so 1d tells whether there is data. Versions stay when
a definition goes: what lands, or was archived, with one of them still leads to its schema.
"""

from collections.abc import Mapping
from typing import NamedTuple

DELETE = "DELETE FROM custom_event_definitions WHERE name = %s"
"""To be carried out while the definition is locked and `Uses.sentence` has nothing to say."""
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

    @property
    def used_by(self) -> list[str]:
        """The names of what needs it."""
        return [use for use, is_used in self._asdict().items() if is_used]

    @property
    def sentence(self) -> str | None:
        """Why the definition must stay, and what to do instead; None if nothing needs it."""
        if not self.used_by:
            return None
        return (
            f"It is used: there are {' and '.join(map(_NAMES.__getitem__, self.used_by))} of this type. "
            "Deactivate it instead, or delete it when retention has removed them."
        )


_NAMES: Mapping[str, str] = {
    "events": "events",
    "dead_letters": "open dead letters",
    "metrics": "values of metrics",
}
