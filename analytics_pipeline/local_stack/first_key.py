"""The first key of an API that asks for keys: made once, by whoever starts the stack, and shown to that person.

Belongs here: when there is one to make. Does not belong here: keys (`storage.api_keys`), showing it (`supervisor`).
"""

from datetime import UTC, datetime

from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.api_keys import create_first_key, new_key
from analytics_pipeline.storage.audit_log import write_command
from analytics_pipeline.storage.connection import connection


def first_key(settings: Settings) -> str | None:
    """Make a key with every scope if keys are asked for and there has never been one; its text, known only here.

    Raises:
        EnvironmentFault: the database cannot be reached.
    """
    if not settings.security.api_key_enabled:
        return None
    now = datetime.now(UTC)
    key = new_key("first", ["admin"], now=now)
    with connection(settings.database.conninfo(), name="keys") as opened:
        stored = create_first_key(opened, key)
        if stored is not None:
            write_command(opened, now, "analytics up", stored.id)
        opened.commit()
    return key.text if stored is not None else None


def sentence(key: str) -> str:
    """What the person is told."""
    return f"the API asks for keys; this one may do everything, keep it, it is not shown again: {key}"
