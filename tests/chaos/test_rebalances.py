"""Members that come and go faster than the group settles, while the topic grows and Postgres crashes in between."""

import signal
import time

import pytest

from tests.chaos.faults import times
from tests.chaos.rig import Rig

_MOST = 3
_CRASHES = 2
"""Of Postgres: members come and go while landing waits, with its partitions paused or not claimed."""


@pytest.mark.parametrize("seconds", times(6, 180))
def test_a_storm_of_rebalances_while_partitions_are_added(rig: Rig, seconds: int) -> None:
    config = rig.configure(workers=1)
    members = [rig.process(config, f"member-{number}") for number in range(_MOST)]
    changes = 0
    with rig.load:
        members[0].start()
        rig.progress()
        start, grown, crashes = time.monotonic(), False, 0
        while (elapsed := time.monotonic() - start) < seconds:
            if not grown and elapsed > seconds / 2:
                rig.faults.plan("partitions from 4 to 8")
                rig.add_partitions(8)
                rig.faults.fired("partitions from 4 to 8")
                grown = True
            if elapsed > (crashes + 1) * seconds / (_CRASHES + 1) and crashes < _CRASHES:
                rig.faults.plan("SIGQUIT of Postgres")
                rig.postgres.crash(signal.SIGQUIT)
                rig.faults.fired("SIGQUIT of Postgres")
                crashes += 1
            running = [member for member in members if member.is_running]
            idle = [member for member in members if not member.is_running]
            if not idle or (len(running) > 1 and rig.rng.random() < 0.5):
                leaver = rig.rng.choice(running)
                if rig.rng.random() < 0.5:
                    assert leaver.kill()
                    rig.faults.note("left by SIGKILL")
                else:
                    # One that was started just now may not listen to signals yet.
                    assert leaver.stop() in (0, -signal.SIGTERM)
                    rig.faults.note("left in order")
            else:
                rig.rng.choice(idle).start()
                rig.faults.note("joined")
            changes += 1
            rig.linger(2)
            if not rig.postgres.is_running:
                rig.postgres.start()
        assert grown
        rig.progress()
    for member in members:
        for _ in range(member.assignments):
            rig.faults.note("assignments by Kafka")
    assert changes >= seconds // 3
    rig.settle(*[member for member in members if member.is_running])
