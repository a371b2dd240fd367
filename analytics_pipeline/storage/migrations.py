"""Schema versions: the plain, ordered files of `sql/migrations`, each applied once, in a transaction of its own.

Belongs here: applying them, and refusing a schema this program does not know.
Does not belong here: any DDL; that stands in the files.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psycopg

from analytics_pipeline.errors import ConfigurationError, SchemaMismatch
from analytics_pipeline.settings import project_file
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.original import refuse_foreign
from analytics_pipeline.storage.patience import ATTEMPTS, Held, pause

_CREATE_REGISTER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_LOCK = "SELECT pg_advisory_lock(%s, 0)"
_UNLOCK = "SELECT pg_advisory_unlock(%s, 0)"
_LOCK_TIMEOUT = "3s"
"""For so long, those who come after a statement that waits for a table wait behind it."""
_LONGEST_HOLDER = """
SELECT
    other.pid, other.application_name, to_char(other.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
    string_agg(DISTINCT held.relation::regclass::text, ', ')
FROM pg_locks AS held
INNER JOIN pg_class AS relation ON relation.oid = held.relation AND relation.relkind IN ('r', 'p', 'm')
INNER JOIN pg_stat_activity AS other ON other.pid = held.pid
WHERE held.granted AND held.pid <> pg_backend_pid() AND other.datname = current_database()
    AND relation.relnamespace = current_schema()::regnamespace
GROUP BY other.pid, other.application_name, other.xact_start
ORDER BY other.xact_start NULLS LAST
LIMIT 1
"""
_APPLIED = "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
_REGISTER = "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)"


class Migration(NamedTuple):
    """One file; `version` is the number its name begins with."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text: an applied file never changes again."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def available(folder: Path | None = None) -> list[Migration]:
    """All migrations this program knows, in order."""
    folder = folder or project_file("sql/migrations")
    return [
        Migration(int(path.name.split("_")[0]), path.stem, path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("[0-9]*.sql"))
    ]


def migrate(
    connection: Connection, folder: Path | None = None, *, tell: Callable[[str], None] = lambda _words: None
) -> list[Migration]:
    """Apply what is missing and return it; several processes may call this at once.

    A file that fails leaves those before it applied, and nothing of its own.

    Args:
        connection: idle.
        folder: of other files than those of this program.
        tell: is given what is done, and what is waited for.

    Raises:
        SchemaMismatch: the database is newer than this program, or an applied file was edited.
        ConfigurationError: the database holds tables of the original service, or of somebody else.
        Held: somebody keeps a table locked that a file changes.
    """
    done = []
    connection.commit()
    with _alone(connection):
        with connection.transaction():
            refuse_foreign(connection)
            connection.execute(_CREATE_REGISTER)
            applied = _check(connection, available(folder))
        for migration in available(folder):
            if migration.version not in applied:
                tell(f"applying {migration.name}")
                _apply(connection, migration, tell)
                done.append(migration)
    return done


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """While the block runs, no other process migrates."""
    with connection.transaction():
        connection.execute(_LOCK, (Lock.MIGRATION,))
    try:
        yield
    finally:
        with suppress(psycopg.OperationalError), connection.transaction():  # a lost connection holds no lock
            connection.execute(_UNLOCK, (Lock.MIGRATION,))


def _apply(connection: Connection, migration: Migration, tell: Callable[[str], None]) -> None:
    """One file, which waits for a lock for a moment, again and again."""
    holder = ""
    for attempt in range(ATTEMPTS):
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                connection.execute(migration.text.encode())
                connection.execute(_REGISTER, (migration.version, migration.name, migration.checksum))
                return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            holder = _holder(connection)
            tell(f"{migration.name} waits for {holder}")
            pause(attempt)
    raise Held(
        f"migration {migration.name} was not applied, for a table that it changes stayed locked by {holder}: end "
        "that transaction or wait for it, then run `analytics migrate` again"
    )


def _holder(connection: Connection) -> str:
    """Whose transaction has held a lock on a table for longest."""
    with connection.transaction():
        found = connection.execute(_LONGEST_HOLDER).fetchone()
    if found is None:
        return "a transaction that has just ended"
    pid, name, since, tables = found
    began = f"whose transaction began at {since} UTC and" if since else "which"
    return f"process {pid} ({name or 'without a name'}), {began} uses {tables}"


def check_schema(connection: Connection) -> None:
    """Refuse to work with a schema that is older or newer than this program.

    Raises:
        SchemaMismatch: says which, and the command that mends it; or that it is the original service's database.
    """
    known = available()
    exists = connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL").fetchone()
    if not (exists and exists[0]):
        try:
            refuse_foreign(connection)
        except ConfigurationError as error:
            raise SchemaMismatch(str(error)) from None
    applied = _check(connection, known) if exists and exists[0] else set()
    missing = [migration.name for migration in known if migration.version not in applied]
    connection.rollback()
    if missing:
        raise SchemaMismatch(
            f"the database schema is older than this program ({len(missing)} migrations missing, first "
            f"{missing[0]}): run `analytics migrate`"
        )


def _check(connection: Connection, known: list[Migration]) -> set[int]:
    checksums = {migration.version: migration.checksum for migration in known}
    applied = set()
    for version, name, checksum in connection.execute(_APPLIED):
        if version not in checksums:
            raise SchemaMismatch(
                f"the database schema is newer than this program (it has {name}): start the newer release again, or "
                "restore the backup from before it (docs/runbooks/roll-back.md)"
            )
        if checksums[version] != checksum:
            raise SchemaMismatch(
                f"migration {name} was edited after it was applied: restore the released file"
            )
        applied.add(version)
    return applied
