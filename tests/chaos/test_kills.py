"""SIGKILL of landing processes: at any moment, and at each named one."""

import pytest

from analytics_pipeline.failpoints import FailPoint
from tests.chaos.faults import times
from tests.chaos.posts import Posts
from tests.chaos.rig import SESSION, Rig
from tests.integration.api_process import started
from tests.waiting import wait_for

TAKE_OVER = 5.0
"""Seconds beyond the session timeout."""


@pytest.mark.parametrize("kills", times(3, 60))
def test_sigkill_at_random_moments(rig: Rig, kills: int) -> None:
    """Two members; one is killed, the other takes over while nobody helps it. Both land the inbox, too.

    A member that is killed while it joins is in the generation that the others settle on without it: Kafka then gives
    it another session timeout, from there.
    """
    session = SESSION if kills < 10 else 6.0
    workers = rig.rng.choice([1, 2])
    config = rig.configure(session=session, workers=workers)
    members = [rig.process(config, f"member-{number}") for number in range(2)]
    rig.faults.plan("SIGKILL", kills)
    with (
        started(rig.database) as api,
        Posts(api, rig.database, f"posted.{rig.topic}", rig.rng) as posts,
        rig.load,
    ):
        for member in members:
            member.start()
        for _ in range(kills):
            rig.progress()
            rig.linger()
            victim = rig.rng.choice(members)
            if rig.is_landing():
                rig.faults.note("while a landing transaction was open")
            if posts.waiting:
                rig.faults.note("while posted events waited")
            is_settled, before = rig.is_settled(config, workers * len(members)), rig.positions()
            if victim.kill():
                rig.faults.fired("SIGKILL")
            what, allowed = (
                ("take-over", session) if is_settled else ("take-over of a joining one", 2 * session)
            )
            rig.faults.took(what, rig.progress(within=allowed + TAKE_OVER, since=before))
            victim.start()
            if rig.rng.random() < 0.8:
                wait_for(lambda: rig.is_settled(config, workers * len(members)), 60, "both are members")
        rig.progress()
    posts.check()
    rig.settle(*members)


@pytest.mark.parametrize("rounds", times(1, 3))
def test_sigkill_at_every_fail_point(rig: Rig, rounds: int) -> None:
    """Each next process is the only member of another group: it takes over at once."""
    with rig.load:
        for passage in range(1, rounds + 1):
            for point in rig.rng.sample(list(FailPoint), len(FailPoint)):
                is_rare = point in (FailPoint.IN_ON_ASSIGN, FailPoint.IN_ON_REVOKE, FailPoint.IN_ADMISSION)
                rig.faults.plan(point)
                process = rig.process(rig.configure(workers=1))
                process.start(point, passage=1 if is_rare else passage)
                if point is FailPoint.IN_ON_REVOKE:
                    rig.progress()
                    process.end()
                if process.wait(60) == -9:
                    rig.faults.fired(point)
        last = rig.process(rig.configure())
        last.start()
        rig.progress()
    rig.settle(last)
