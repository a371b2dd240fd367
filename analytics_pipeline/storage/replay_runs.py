"""A replay as people ask for it: with the present definitions and limits, and a landing connection of its own.

Belongs here: putting together what a replay needs. Does not belong here: the replay (`storage.replays`), arguments and
words (`cli.dead_letters`, `api.dead_letters`).
"""

import secrets
from collections.abc import Generator

from analytics_pipeline.events.definitions import NO_DEFINITIONS, Definitions
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage import replays
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.dead_letters import Filter
from analytics_pipeline.storage.definitions import load_catalog, load_definitions
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.replays import Replayed


def run(
    connection: Connection,
    settings: Settings,
    which: Filter,
    *,
    is_dry_run: bool,
    limit: int | None = None,
    after: int = 0,
) -> Generator[Replayed, None, None]:
    """Replay the open letters that `which` lets through, or say what that would do.

    Args:
        connection: to read definitions with; not in a transaction.
        settings: limits, and where the database is.
        which: the letters.
        is_dry_run: judge them, change nothing; events that are stored already count as stored.
        limit: try at most so many.
        after: only letters of greater ids.

    Yields:
        See `storage.replays.replay`; closed before its end, it stops after the batch that is done.

    Raises:
        See `storage.landing`; what was yielded before stays true.
    """
    is_custom_enabled = settings.custom_events.enabled

    def definitions() -> Definitions:
        return load_definitions(connection)[0] if is_custom_enabled else NO_DEFINITIONS

    lander = Lander(
        settings.database.conninfo(),
        name=f"landing-replay-{secrets.token_hex(4)}",
        catalog=lambda: load_catalog(connection, is_custom_enabled=is_custom_enabled),
    )
    work = replays.preview if is_dry_run else replays.replay
    try:
        yield from work(
            lander, which, definitions=definitions, limits=Limits.of(settings), limit=limit, after=after
        )
    finally:
        lander.close()
