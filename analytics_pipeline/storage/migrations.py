"""Schema versions: the plain, ordered files of `sql/migrations`, each applied once, in one transaction.

Belongs here: applying them, and refusing a schema this program does not know.
Does not belong here: any DDL; that stands in the files.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from analytics_pipeline.errors import ConfigurationError, SchemaMismatch
from analytics_pipeline.settings import project_file
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.original import refuse_foreign

_CREATE_REGISTER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
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

    Raises:
        SchemaMismatch: the database is newer than this program, or an applied file was edited.
        ConfigurationError: the database holds tables of the original service, or of somebody else.
    """
    done = []
    connection.commit()
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (Lock.MIGRATION,))
        refuse_foreign(connection)
        connection.execute(_CREATE_REGISTER)
        applied = _check(connection, available(folder))
        for migration in available(folder):
            if migration.version not in applied:
                tell(f"applying {migration.name}")
                connection.execute(migration.text.encode())
                connection.execute(_REGISTER, (migration.version, migration.name, migration.checksum))
                done.append(migration)
    return done


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
                f"the database schema is newer than this program (it has {name}): upgrade this program"
            )
        if checksums[version] != checksum:
            raise SchemaMismatch(
                f"migration {name} was edited after it was applied: restore the released file"
            )
        applied.add(version)
    return applied
