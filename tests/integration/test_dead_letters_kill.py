"""SIGKILL of a replay at every named moment of its transaction, and between batches: nothing lost, nothing doubled."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing

import pytest

from analytics_pipeline.events.definitions import NO_DEFINITIONS
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.failpoints import FailPoint
from analytics_pipeline.settings import environment
from analytics_pipeline.storage.dead_letters import CONSERVED, Filter
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.replays import Replayed, replay
from tests.integration.landing_rig import LIMITS, SOURCE, check_books, decode, message, rows, value
from tests.integration.test_dead_letters import land_strictly
from tests.waiting import wait_for

IN_THE_TRANSACTION = [
    FailPoint.BEFORE_COPY,
    FailPoint.MID_COPY,
    FailPoint.AFTER_COPY,
    FailPoint.AFTER_DEAD_LETTERS,
    FailPoint.AFTER_DELTAS,
    FailPoint.AFTER_CAS,
    FailPoint.BEFORE_COMMIT,
    FailPoint.AFTER_COMMIT,
]
RANDOM = 8
LETTERS = 3000
BATCH = 40
# Imports once, then forks a child for each line it reads; the child says how far it is, the parent how it ended.
REPLAYS = f"""
import os
import sys
from analytics_pipeline import failpoints
from analytics_pipeline.events.definitions import NO_DEFINITIONS
from analytics_pipeline.events.schema import EVENTS_SCHEMA, check_events
from analytics_pipeline.storage.dead_letters import Filter
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.replays import replay
from tests.integration.landing_rig import LIMITS

check_events(EVENTS_SCHEMA.empty_table())
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        failpoints.arm(line.strip())
        lander = Lander(sys.argv[1], name="landing-replay-test")
        for batch in replay(lander, Filter(), definitions=lambda: NO_DEFINITIONS, limits=LIMITS, batch_size={BATCH}):
            print("batch", batch.tried, flush=True)
        os._exit(0)
    print("child", child, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Replays:
    """Starts replays that are killed."""

    def __init__(self, database: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", REPLAYS, database],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._lines = self._process.stdin, self._process.stdout

    def killed_at(self, point: FailPoint, passage: int) -> bool:
        self._commands.write(f"{point}:kill:{passage}\n")
        return self._is_killed()

    def killed_after(self, batches: int, seconds: float) -> bool:
        self._commands.write("\n")
        child, seen = None, 0
        while child is None or seen < batches:
            word, number = self._next()
            assert word != "ended", "it was over too soon"
            child, seen = (number, seen) if word == "child" else (child, seen + 1)
        # A random moment of the batches that follow.
        threading.Event().wait(seconds)
        os.kill(child, signal.SIGKILL)
        return self._is_killed()

    def close(self) -> None:
        self._commands.close()
        self._process.wait(60)
        self._lines.close()

    def _is_killed(self) -> bool:
        while (answer := self._next())[0] != "ended":
            pass
        return answer[1] == -signal.SIGKILL

    def _next(self) -> tuple[str, int]:
        line = self._lines.readline()
        assert line, "the replays ended by themselves"
        word, number = line.split()
        return word, int(number)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_replay_that_is_killed_anywhere_is_only_interrupted(database: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    sent = [letter(rng, number) for number in range(LETTERS)]
    lander = Lander(database, name="landing-test")
    land_strictly(lander, database, sent)
    good = decode([RawBatch(SOURCE, 0, sent)])
    expected = dict(zip(good.events["source_offset"].to_pylist(), good.events["id"].to_pylist(), strict=True))

    fired: Counter[str] = Counter()
    with closing(Replays(database)) as started:
        for point in IN_THE_TRANSACTION:
            fired[point] += started.killed_at(point, rng.randint(1, 3))
            check(database)
        for _ in range(RANDOM):
            fired["random"] += started.killed_after(rng.randint(1, 3), rng.random() * 0.02)
            check(database)
    print(
        f"seed {seed}: {dict(fired)}, {value(database, 'SELECT count(*) FROM events')} events before the last run"
    )
    assert fired == {**dict.fromkeys(IN_THE_TRANSACTION, 1), "random": RANDOM}
    assert 0 < value(database, "SELECT count(*) FROM events") < len(expected)

    def finish() -> bool:
        done = Replayed()
        for batch in replay(lander, Filter(), definitions=lambda: NO_DEFINITIONS, limits=LIMITS):
            done.add(batch)
        return done.busy == 0  # a killed process' server process may hold letters for a moment

    wait_for(finish, 30)
    lander.close()
    found = dict(rows(database, "SELECT source_offset, id FROM events"))
    assert {at: identity.bytes for at, identity in found.items()} == expected, f"seed {seed}"
    left = rows(
        database, "SELECT source_offset, reason FROM dead_letter_events WHERE status = 'open' ORDER BY 1"
    )
    assert left == sorted((dead.offset, dead.reason.value) for dead in good.dead), f"seed {seed}"
    assert value(database, "SELECT count(*) FROM dead_letter_events") == LETTERS
    check(database)


def letter(rng: random.Random, number: int) -> PlainMessage:
    """Refused by the definition at first; some for good; half of them without an id of their own."""
    if rng.random() < 0.1:
        return message(number, b"broken %d" % number)
    identity = {"id": f"00000000-0000-4000-8000-{number:012x}"} if rng.random() < 0.5 else {}
    body = {"event_type": "order.placed", "user_id": str(number), "properties": {"price": 99}, **identity}
    return message(number, json.dumps(body).encode())


def check(database: str) -> None:
    check_books(database)
    for name, by_ledger, by_table in rows(database, CONSERVED):
        assert by_ledger == by_table, name
    stored = value(database, "SELECT count(*) FROM events")
    assert stored == value(database, "SELECT count(*) FROM dead_letter_events WHERE status = 'replayed'")
