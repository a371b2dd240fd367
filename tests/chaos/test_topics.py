"""Topics that lose what was not read yet: a loud stop, the command it names, a line in the ledger."""

import re
import subprocess
import sys
from collections import Counter

import pytest
from confluent_kafka import TopicPartition

from analytics_pipeline.settings import environment
from tests.chaos import books
from tests.chaos.faults import times
from tests.chaos.landing_process import LandingProcess
from tests.chaos.load import Load, id_of
from tests.chaos.rig import Rig
from tests.integration.landing_rig import check_books, rows
from tests.waiting import wait_for

pytestmark = pytest.mark.parametrize("rig", [pytest.param(1, id="one_partition")], indirect=True)


def command(process: LandingProcess) -> str:
    """What the log told a person to type, last."""
    found = re.findall(r'"partition stopped" .*`analytics (offsets [a-z-]+ [^`]+)`', process.log)
    return found[-1] if found else ""


def resolve(process: LandingProcess) -> None:
    words = [*command(process).split(), "--yes", "--reason", "tried by a test"]
    ended = subprocess.run(
        [sys.executable, "-m", "analytics_pipeline", *words],
        env={**environment(), "B25_CONFIG": str(process.config)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def decisions(rig: Rig) -> list[tuple[int, int, int, int]]:
    return rows(
        rig.database,
        "SELECT partition, first_offset, next_offset, skipped FROM ingest_batches"
        " WHERE source = %s AND note LIKE 'tried by a test%%' ORDER BY batch_id",
        rig.topic,
    )


def stop_reasons(rig: Rig) -> list[str | None]:
    return [
        reason
        for (reason,) in rows(
            rig.database, "SELECT stop_reason FROM ingest_offsets WHERE source = %s", rig.topic
        )
    ]


def make_anew(rig: Rig) -> None:
    [deleted] = rig.admin.delete_topics([rig.topic]).values()
    deleted.result(20)
    wait_for(lambda: rig.topic not in rig.admin.list_topics(timeout=5).topics, 20, "the topic is gone")
    rig.create_topic(rig.load.partitions)


@pytest.mark.parametrize("is_running", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("rounds", times(1, 3))
def test_a_topic_is_made_anew_and_filled_beyond_the_old_offsets(
    rig: Rig, rounds: int, is_running: bool
) -> None:
    """The offset to go on at exists in the new topic: nothing but its id tells that it was never read."""
    process = rig.process(rig.configure(workers=1))
    loads = [rig.load]
    rig.load.send(200)
    process.start()
    wait_for(lambda: rig.positions() == loads[-1].ends(), 60, "the first topic landed")
    for _ in range(rounds):
        rig.faults.plan("topic made anew")
        before, stops = decisions(rig), process.log.count('"partition stopped"')
        if not is_running:
            assert process.stop() == 0
        make_anew(rig)
        loads.append(Load(rig.kafka.address, rig.topic, rig.load.partitions, rig.rng))
        loads[-1].send(2 * len(loads[-2].delivered))
        if not is_running:
            process.start()
        wait_for(
            lambda stops=stops: process.log.count('"partition stopped"') > stops,
            60,
            "the partition is stopped loudly",
        )
        rig.faults.fired("topic made anew")
        wait_for(lambda: stop_reasons(rig) == ["topic_recreated"], 10, "the database knows why")
        resolve(process)
        wait_for(lambda: rig.positions() == loads[-1].ends(), 60, "the new topic landed")
        assert len(decisions(rig)) == len(before) + 1
        assert stop_reasons(rig) == [None]
    assert process.stop() == 0
    sent = [(load, one) for load in loads for one in load.delivered]
    expected = Counter({id_of(rig.topic, one) for _, one in sent if not one.message.kind.is_dead})
    found = rows(rig.database, "SELECT id::text FROM events WHERE source = %s", rig.topic)
    assert Counter(row[0] for row in found) == expected
    dead = Counter(one.message.value for _, one in sent if one.message.kind.is_dead)
    found = rows(rig.database, "SELECT value FROM dead_letter_events WHERE source = %s", rig.topic)
    again = Counter(row[0] for row in found) - dead
    assert not dead - Counter(row[0] for row in found)
    # Under a reader, what it read before the change was noticed is read again: on purpose, and recorded.
    assert is_running or not again
    check_books(rig.database)
    rig.faults.report()


@pytest.mark.slow
@pytest.mark.parametrize("rounds", times(1, 3))
def test_offsets_are_trimmed_by_retention_before_they_are_read(rig: Rig, rounds: int) -> None:
    process = rig.process(rig.configure(workers=1))
    process.start()
    gone: list[tuple[int, int, int, int]] = []
    for _ in range(rounds):
        rig.faults.plan("records deleted")
        rig.load.send(200)
        wait_for(lambda: rig.positions() == rig.load.ends(), 60, "what was sent has landed")
        before = rig.positions()[0]
        # What it had fetched already would still land: only a reader that comes later is sure to miss them.
        process.kill()
        rig.load.send(200)
        cut = (before + rig.load.ends()[0]) // 2
        [deleted] = rig.admin.delete_records([TopicPartition(rig.topic, 0, cut)]).values()
        deleted.result(20)
        process.start()
        wait_for(lambda cut=cut: command(process).endswith(f" {cut}"), 60, "it is stopped loudly")
        rig.faults.fired("records deleted")
        gone.append((0, before, cut, cut - before))
        resolve(process)
        wait_for(lambda: rig.positions() == rig.load.ends(), 60, "the rest has landed")
    assert process.stop() == 0
    assert decisions(rig) == gone
    rig.load.delivered = [
        one for one in rig.load.delivered if not any(a <= one.offset < b for _, a, b, _ in gone)
    ]
    books.check(rig.database, rig.load, skipped=Counter({0: sum(row[3] for row in gone)}))
    rig.faults.report()
