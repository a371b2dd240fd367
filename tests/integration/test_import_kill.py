"""SIGKILL of an import at every named moment of its transactions, and of its merges: nothing lost, nothing doubled."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from analytics_pipeline.failpoints import FailPoint, RunPoint
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import environment
from tests.integration.databases import fresh_database
from tests.integration.landing_rig import rows, value
from tests.integration.original_service import (
    check_everything,
    create_tables,
    event,
    history,
    multiset,
    past,
    run_import,
    store,
)

POINTS = [
    FailPoint.BEFORE_COPY,
    FailPoint.MID_COPY,
    FailPoint.AFTER_COPY,
    FailPoint.AFTER_DELTAS,
    FailPoint.AFTER_CAS,
    FailPoint.BEFORE_COMMIT,
    FailPoint.AFTER_COMMIT,
    RunPoint.DELTAS_TAKEN,
    RunPoint.LEVELS_WRITTEN,
]
BATCH = 20
EVENTS, BROKEN = 300, 20
# Imports once, then forks a child for each line it reads, and says how the child ended.
IMPORTS = f"""
import os
import sys
from analytics_pipeline import failpoints
from analytics_pipeline.events.schema import EVENTS_SCHEMA, check_events
from tests.integration.original_service import run_import

check_events(EVENTS_SCHEMA.empty_table())
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        failpoints.arm(line.strip())
        run_import(sys.argv[1], sys.argv[2], batch_size={BATCH})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Imports:
    """Starts imports that are killed."""

    def __init__(self, ours: str, theirs: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", IMPORTS, ours, theirs],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._ends = self._process.stdin, self._process.stdout

    def killed_at(self, point: FailPoint | RunPoint, passage: int) -> bool:
        self._commands.write(f"{point}:kill:{passage}\n")
        return int(self._ends.readline()) == -signal.SIGKILL

    def close(self) -> None:
        self._commands.close()
        self._process.wait(60)
        self._ends.close()


@pytest.fixture
def theirs(postgres: Postgres) -> Iterator[str]:
    for conninfo in fresh_database(postgres, "template1"):
        create_tables(conninfo)
        yield conninfo


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_import_that_is_killed_anywhere_is_only_interrupted(database: str, theirs: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    good = history(rng, EVENTS, [1])
    store(theirs, good + [event(rng, past(1), event_type="") for _ in range(BROKEN)])
    with closing(Imports(database, theirs)) as started:
        for point in POINTS:
            assert started.killed_at(point, 1 if isinstance(point, RunPoint) else rng.randint(1, 2)), point
            stored, dead = (
                value(database, "SELECT count(*) FROM events"),
                value(database, "SELECT count(*) FROM dead_letter_events"),
            )
            [(read,)] = rows(database, "SELECT read FROM import_days") or [(0,)]
            assert read == stored + dead, (point, seed)
    assert 0 < value(database, "SELECT read FROM import_days") < EVENTS + BROKEN
    [day] = run_import(database, theirs, batch_size=BATCH)
    assert (day.read, day.stored, day.duplicate, day.dead) == (EVENTS + BROKEN, EVENTS, 0, BROKEN), seed
    wanted = "SELECT id, event_type, user_id, session_id, properties::text, timestamp FROM events"
    assert multiset(database, wanted) == multiset(theirs, f"{wanted} WHERE event_type <> ''")
    assert value(database, "SELECT pass FROM import_days") == 1
    check_everything(database)
