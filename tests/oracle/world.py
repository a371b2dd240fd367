"""The database that all lives of a run share, one after the other: a new one for each would cost as much as the life.

Belongs here: making it as it was. Does not belong here: what a life does to it (`machine`).
"""

from analytics_pipeline.storage.connection import connect
from tests.oracle import edits, naive
from tests.oracle.reads import Reads
from tests.waiting import wait_for


class World:
    """The database of all examples of one run, and how it becomes as it was."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.main = connect(conninfo, name="oracle", autocommit=True)
        self.main.execute(naive.CREATE)
        edits.create(self.main)
        self.reads = Reads(conninfo)
        self.empty = [table for table in self._tables() if not self._holds_rows(table)]

    def close(self) -> None:
        """Leave the database."""
        self.reads.close()
        self.main.close()

    def renew(self) -> None:
        """Forget the last example: empty what was empty, and have all partitions again."""
        if self.main.closed:
            self.main = connect(self.conninfo, name="oracle", autocommit=True)
        for parent, partition in self.main.execute(
            "SELECT parent, partition FROM time_partitions WHERE is_detaching"
        ).fetchall():
            self.main.execute(f"ALTER TABLE {parent} DETACH PARTITION {partition} FINALIZE")
        left = self.main.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relispartition"
            r" AND relname ~ '^(events|metric_\w+)_p\d+$'"
        ).fetchall()
        for (table,) in left:
            self.main.execute(f"DROP TABLE {table}")
        filled = [table for table in self.empty if self._holds_rows(table)]
        with self.main.transaction():
            for table in filled:
                self.main.execute(f"DELETE FROM {table}")
            self.main.execute("DELETE FROM oracle.truth")
            self.main.execute("UPDATE oracle.levels SET rows_from = NULL, register_from = NULL")
            self.main.execute("UPDATE retention_state SET raw_floor = '1970-01-01+00'")

    def wait_for_the_dead(self) -> None:
        """A server process notices a lost client a moment later; until then it holds its locks."""
        if self.main.closed:
            self.main = connect(self.conninfo, name="oracle", autocommit=True)
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' AND application_name <> 'analytics-api-read'"
        )
        wait_for(lambda: self.main.execute(others).fetchall()[0][0] == 0, message="the dead are gone")

    def _tables(self) -> list[str]:
        found = self.main.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace"
        )
        return [name for (name,) in found]

    def _holds_rows(self, table: str) -> bool:
        return bool(self.main.execute(f"SELECT EXISTS (SELECT FROM {table})").fetchall()[0][0])
