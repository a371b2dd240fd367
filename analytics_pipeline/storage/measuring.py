"""Telling now and then how the database, the books and Dagster are: on a connection of its own, nobody waits for it.

Belongs here: when, and the series. Does not belong here: the statements (`storage.sizes`, `storage.postgres_figures`,
`storage.dagster_figures`, `storage.audit`, `storage.books`).

Every process of ingest and API is ready to; one does, and what the newest measurement says is what counts.
"""

import shutil
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import structlog

from analytics_pipeline import telemetry
from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage import audit, books
from analytics_pipeline.storage.connection import Connection, Lock, connection
from analytics_pipeline.storage.dagster_figures import DagsterFigures, dagster_figures
from analytics_pipeline.storage.postgres_figures import PostgresFigures, postgres_figures
from analytics_pipeline.storage.sizes import Sizes, sizes
from analytics_pipeline.storage.verdicts import Check

_log = structlog.get_logger(__name__)

OFTEN = 15.0
_TRY_ALONE = "SELECT pg_try_advisory_lock(%s, 0)"
_SELDOM = 4
"""Every how many looks tables are measured and the ledger is checked: both read more than a few rows."""
_LEDGER_WINDOW = timedelta(hours=1)
_SERVER_IS_GOING = "57P"


def run(
    settings: Settings, service: str, conninfo: str, stop: threading.Event, *, often: float = OFTEN
) -> None:
    """Measure now, then every 15 seconds, and what costs more once a minute, until stopped.

    One process at a time does, whoever has the lock: an API goes on where the last ingest process ended, so that
    what fires does not fall silent with it.

    Args:
        settings: for Dagster's schema and whether anything is removed.
        service: the process's name in series.
        conninfo: of the database.
        stop: ends it.
        often: seconds between two looks.
    """
    measured = Measured()
    look = 0
    opened: Connection | None = None
    with ExitStack() as turn:
        while True:
            tell_disk(service, settings.local_stack.state_folder)
            try:
                if opened is None:
                    opened = turn.enter_context(
                        connection(
                            conninfo,
                            name="measuring",
                            autocommit=True,
                            statement_timeout="10s",
                            lock_timeout="1s",
                        )
                    )
                    is_ours = opened.execute(_TRY_ALONE, (Lock.MEASURING,)).fetchone() == (True,)
                if is_ours:
                    measure(settings, opened, measured, is_thorough=look % _SELDOM == 0)
                    look += 1
                else:
                    turn.close()
                    opened = None
                telemetry.POSTGRES_UP.labels(service).set(1)
            except (EnvironmentFault, psycopg.Error) as error:
                turn.close()  # another may have its turn
                opened = None
                if _is_away(error):
                    telemetry.POSTGRES_UP.labels(service).set(0)
                if not isinstance(error, EnvironmentFault):
                    _log.warning("the database was not measured", reason=type(error).__name__)
            if stop.wait(often):
                return


def _is_away(error: EnvironmentFault | psycopg.Error) -> bool:
    if isinstance(error, EnvironmentFault):
        return True
    return error.sqlstate is None or error.sqlstate.startswith(_SERVER_IS_GOING)


class Measured:
    """The labels told so far, so that one that is gone is told as nothing."""

    def __init__(self) -> None:
        self.families: set[str] = set()
        self.checks: set[str] = set()


def measure(settings: Settings, opened: Connection, measured: Measured, *, is_thorough: bool) -> None:
    """Ask for everything, and set the series.

    Args:
        settings: for Dagster's schema and whether anything is removed.
        opened: in autocommit.
        measured: what was told before.
        is_thorough: tables and the ledger, too.
    """
    now = datetime.now(UTC)
    tell_postgres(postgres_figures(opened))
    tell_pending(books.freshness(opened, now=now))
    if (dagster := dagster_figures(opened, schema=settings.dagster.schema_name)) is not None:
        tell_dagster(dagster, measured.checks)
    if is_thorough:
        found = sizes(opened, dagster_schema=settings.dagster.schema_name)
        tell_sizes(found, measured.families, is_cleaned=settings.analytics.retention.cleanup_enabled)
        tell_ledger(audit.verify_ledger(opened, since=now - _LEDGER_WINDOW))


def tell_sizes(found: Sizes, known: set[str], *, is_cleaned: bool) -> None:
    """A family that is gone has no bytes, and what nobody should remove is not overdue."""
    known |= found.families.keys()
    for name in known:
        family = found.families.get(name)
        telemetry.TABLE_BYTES.labels(name).set(family.bytes if family else 0)
        telemetry.TABLE_ROWS.labels(name, "live").set(family.live_rows if family else 0)
        telemetry.TABLE_ROWS.labels(name, "dead").set(family.dead_rows if family else 0)
    for name, days in found.days_ahead.items():
        telemetry.PARTITIONS_AHEAD.labels(name).set(days)
    telemetry.RETENTION_OVERDUE.set(found.overdue if is_cleaned else 0)


def tell_postgres(found: PostgresFigures) -> None:
    """What the server says of itself."""
    telemetry.DATABASE_BYTES.set(found.database_bytes)
    telemetry.POSTGRES_CONNECTIONS_MOST.set(found.max_connections)
    for state, count in found.connections.items():
        telemetry.POSTGRES_CONNECTIONS.labels(state).set(count)
    telemetry.POSTGRES_OLDEST_TRANSACTION.set(found.oldest_transaction)
    telemetry.POSTGRES_WAITING.set(found.waiting_for_locks)
    telemetry.POSTGRES_WAL.set(found.wal_bytes)
    telemetry.POSTGRES_TRANSACTIONS.labels("committed").set(found.committed)
    telemetry.POSTGRES_TRANSACTIONS.labels("rolled_back").set(found.rolled_back)
    telemetry.POSTGRES_BLOCKS.labels("cache").set(found.blocks_in_cache)
    telemetry.POSTGRES_BLOCKS.labels("disk").set(found.blocks_on_disk)
    telemetry.POSTGRES_TEMPORARY.set(found.temporary_bytes)
    telemetry.POSTGRES_DEADLOCKS.set(found.deadlocks)
    telemetry.POSTGRES_TRANSACTION_AGE.set(found.transaction_id_age)


def tell_pending(found: books.Freshness) -> None:
    """What no live merge has settled."""
    telemetry.ROLLUP_PENDING.set(found.pending)
    telemetry.ROLLUP_PENDING_AGE.set(max(0.0, found.oldest_pending or 0.0))


def tell_ledger(found: Iterable[Check]) -> None:
    """The balances, each by name."""
    for check in found:
        telemetry.LEDGER_BROKEN.labels(check.name).set(check.broken)


def tell_dagster(found: DagsterFigures, known: set[str]) -> None:
    """Runs, failed checks, heartbeats; a check that is gone has not failed."""
    for state, count in found.runs.items():
        telemetry.DAGSTER_RUNS.labels(state).set(count)
    known |= found.failed_checks.keys()
    for name in known:
        telemetry.DAGSTER_CHECKS_FAILED.labels(name).set(found.failed_checks.get(name, 0))
    for daemon, seconds in found.heartbeats.items():
        telemetry.DAGSTER_HEARTBEAT.labels(daemon).set(max(0.0, seconds))


def tell_disk(
    service: str, folder: Path, usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage
) -> None:
    """The disk that holds a folder, or would: the nearest one above it that is there."""
    path = folder.resolve()
    while not path.exists():
        path = path.parent
    size, _, free = usage(path)
    telemetry.DISK_BYTES.labels(service, "size").set(size)
    telemetry.DISK_BYTES.labels(service, "free").set(free)
