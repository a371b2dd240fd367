"""Runs of retention in processes of their own, which are killed; and whether every event is still somewhere.

One process imports everything once and forks a child for each run.
"""

import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import duckdb

from analytics_pipeline.failpoints import RunPoint
from analytics_pipeline.settings import environment
from analytics_pipeline.storage.connection import Connection
from tests.waiting import wait_for

NAME = "killed"
"""Of the connection of a run."""
_RUNS = f"""
import os
import sys
from datetime import datetime
from analytics_pipeline import failpoints
from analytics_pipeline.storage import retention
from analytics_pipeline.storage.archive import Archive
from analytics_pipeline.storage.connection import connection

conninfo, uri, now = sys.argv[1:]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        failpoints.arm(line.strip())
        with connection(conninfo, name="{NAME}", autocommit=True) as opened:
            when = datetime.fromisoformat(now)
            retention.remove_expired(opened, now=when, run_id="{NAME}", archive=Archive(uri, conninfo))
        os._exit(0)
    print("child", child, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
_ARE_GONE = f"SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'analytics-{NAME}'"
_STANDING = """
SELECT relname::text, relispartition FROM pg_class
WHERE relkind = 'r' AND relname LIKE 'events_p%' AND pg_table_is_visible(oid)
"""
_SAFE = """
SELECT partition, archive FROM retention_removals WHERE parent = 'events' AND state IN ('verified', 'dropped')
"""


class Runs:
    """Starts runs, each of which is killed or ends."""

    def __init__(self, conninfo: str, uri: str, now: datetime) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _RUNS, conninfo, uri, now.isoformat()],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._lines = self._process.stdin, self._process.stdout

    def start(self, armed: str = "") -> int:
        """The process id of a run, which `end` waits for."""
        self._commands.write(f"{armed}\n")
        word, child = self._lines.readline().split()
        assert word == "child"
        return int(child)

    def end(self) -> int:
        """Its exit code, negative where a signal ended it."""
        word, code = self._lines.readline().split()
        assert word == "ended"
        return int(code)

    def killed_at(self, point: RunPoint, passage: int = 1) -> bool:
        """Whether the run came so far; it ended by itself otherwise."""
        self.start(f"{point}:kill:{passage}")
        code = self.end()
        assert code in (0, -signal.SIGKILL), f"a run ended with {code}"
        return code != 0

    def kill(self, child: int) -> None:
        os.kill(child, signal.SIGKILL)
        assert self.end() == -signal.SIGKILL

    def close(self) -> None:
        self._commands.close()
        self._process.wait(60)
        self._lines.close()


def wait_until_gone(db: Connection) -> None:
    """Postgres has noticed that the process is gone."""
    wait_for(lambda: db.execute(_ARE_GONE).fetchone() == (True,), 20, "the backend of the killed run ends")


def check_nothing_lost(db: Connection, folder: Path) -> None:
    """Every event that ever landed is in a table, or in an archive that was proved."""
    landed = {row[0] for row in db.execute("SELECT id FROM landed")}
    safe = dict(db.execute(_SAFE).fetchall())
    standing = [name for name, _ in db.execute(_STANDING).fetchall()]
    found = {row[0] for name in standing for row in db.execute(f"SELECT id FROM {name}")}
    archived = set[object]()
    for archive in safe.values():
        with duckdb.connect() as duck:
            place = archive.removeprefix("file://")
            archived |= {row[0] for row in duck.execute(f"SELECT id FROM '{place}/*.parquet'").fetchall()}
    lost = landed - found - archived
    assert not lost, f"{len(lost)} events are nowhere"
    assert found | archived == landed, "there are events that never landed"
    for name in safe:
        assert str(folder) in safe[name]
