"""An owner that is stopped, is replaced, and wakes up again believing that it still owns its partitions."""

import pytest

from analytics_pipeline.failpoints import FailPoint, Fault
from tests.chaos.faults import times
from tests.chaos.rig import SESSION, Rig
from tests.chaos.test_kills import TAKE_OVER
from tests.waiting import wait_for

_MOMENTS = (
    FailPoint.AFTER_CONSUME,
    FailPoint.AFTER_DECODE,
    FailPoint.MID_COPY,
    FailPoint.AFTER_COPY,
    FailPoint.AFTER_CAS,
    FailPoint.BEFORE_COMMIT,
    FailPoint.AFTER_COMMIT,
    FailPoint.IN_ON_ASSIGN,
)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", times(1, 20))
def test_sigstop_of_an_owner_while_another_takes_over(rig: Rig, rounds: int) -> None:
    config = rig.configure(workers=1)
    sleeper, other = rig.process(config, "sleeper"), rig.process(config, "other")
    rig.faults.plan("SIGSTOP, take-over, SIGCONT", rounds)
    with rig.load:
        other.start()
        for number in range(rounds):
            rig.progress()
            moment = FailPoint.MID_COPY if number == 0 else rig.rng.choice(_MOMENTS)
            sleeper.start(moment, Fault.STOP, 1 if moment is FailPoint.IN_ON_ASSIGN else 3)
            wait_for(lambda: sleeper.is_frozen, 30, f"frozen at {moment}")
            rig.faults.note(str(moment))
            before, joined = rig.positions(), sleeper.assignments
            seconds = rig.progress(within=SESSION + TAKE_OVER, since=before)
            rig.faults.took("take-over", seconds)
            sleeper.thaw()
            rig.faults.fired("SIGSTOP, take-over, SIGCONT")
            wait_for(
                lambda joined=joined: sleeper.assignments > joined,
                30,
                "the sleeper is a member of the group again",
            )
            rig.progress()
            assert sleeper.stop() == 0
    rig.settle(other)
