"""Reading the active custom event definitions.

Belongs here: the statement. Does not belong here: compiling and applying them (`events.definitions`).
"""

from analytics_pipeline.events.definitions import Definitions, compile_all
from analytics_pipeline.storage.connection import Connection

CHANNEL = "custom_events"

_ACTIVE = "SELECT name, version, schema FROM custom_event_definitions WHERE is_active ORDER BY name"


def load_definitions(connection: Connection) -> tuple[Definitions, list[str]]:
    """The active definitions, compiled, and a sentence for each that cannot be."""
    with connection.transaction():
        return compile_all(connection.execute(_ACTIVE).fetchall())
