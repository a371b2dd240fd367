"""Servers that crash, and answers that never come."""

import signal
import time
from itertools import cycle, islice

import pytest
from psycopg.conninfo import make_conninfo

from analytics_pipeline.ingest.topics import admin, ends
from analytics_pipeline.settings import Kafka
from tests.chaos.faults import times
from tests.chaos.proxy import Cut, Proxy
from tests.chaos.rig import Rig
from tests.waiting import wait_for


@pytest.mark.slow
@pytest.mark.parametrize("crashes", times(1, 10))
def test_postgres_restarts_immediately(rig: Rig, crashes: int) -> None:
    """What `pg_ctl restart -m immediate` does: SIGQUIT, no checkpoint, recovery at the start."""
    process = rig.process(rig.configure())
    process.start()
    rig.faults.plan("SIGQUIT of Postgres", crashes)
    with rig.load:
        for _ in range(crashes):
            rig.progress()
            rig.linger()
            if rig.is_landing():
                rig.faults.note("while a landing transaction was open")
            rig.postgres.crash(signal.SIGQUIT)
            rig.faults.fired("SIGQUIT of Postgres")
            rig.postgres.start()
            rig.faults.took("until all partitions land again", rig.progress())
        rig.postgres.crash(signal.SIGQUIT)
        rig.linger()
        assert process.stop() == 0, "a stop while Postgres is away is orderly too"
        rig.postgres.start()
        process.start()
        rig.progress()
    rig.settle(process)


@pytest.mark.slow
@pytest.mark.parametrize("crashes", times(1, 5))
def test_the_broker_is_killed_and_restarts(rig: Rig, crashes: int) -> None:
    process = rig.process(rig.configure())
    process.start()
    rig.faults.plan("SIGKILL of the broker", crashes)
    with rig.load:
        for _ in range(crashes):
            rig.progress()
            rig.linger()
            rig.kafka.crash(signal.SIGKILL)
            rig.faults.fired("SIGKILL of the broker")
            rig.kafka.start()
            rig.faults.took("until all partitions land again", rig.progress())
        if crashes > 1:  # another start of the broker is too slow for the short form
            rig.kafka.crash(signal.SIGKILL)
            rig.linger()
            assert process.stop() == 0, "a stop while Kafka is away is orderly too"
            rig.kafka.start()
            process.start()
            rig.progress()
    rig.settle(process)


@pytest.mark.slow
def test_freshness_moves_again_soon_after_the_broker_restarts(rig: Rig) -> None:
    """A restart elects leaders anew, and Kafka refuses a client's question that names the leaders before."""
    process = rig.process(rig.configure())
    rig.load.send(200)
    process.start()
    wait_for(lambda: rig.caught_up_since(0.0) == rig.load.partitions, 60, "all partitions have caught up")
    client, partitions = admin(Kafka(brokers=[rig.kafka.address])), [(rig.topic, n) for n in range(4)]
    assert ends(client, partitions, timeout=20) is not None, "what the status line asks"
    rig.kafka.crash(signal.SIGKILL)
    wait_for(lambda: rig.kafka_is_silent(), 30, "the database knows that Kafka is away")
    rig.kafka.start()
    restarted_at = time.time()
    rig.load.send(200)
    wait_for(
        lambda: rig.caught_up_since(restarted_at) == rig.load.partitions, 30, "all of them catch up again"
    )
    wait_for(lambda: not rig.kafka_is_silent(), 10, "the database knows that Kafka is back")
    wait_for(lambda: ends(client, partitions, timeout=3), 30, "the status line knows the lag again")
    rig.settle(process)


@pytest.mark.parametrize("cuts", times(5, 30))
def test_the_connection_is_cut_during_commit(rig: Rig, cuts: int) -> None:
    proxy = Proxy(rig.postgres.settings.port)
    process = rig.process(rig.configure(database=make_conninfo(rig.database, port=proxy.port)))
    process.start()
    try:
        with rig.load:
            for cut in islice(cycle(Cut), cuts):
                rig.faults.plan(cut)
                rig.progress()
                rig.linger(0.1)
                proxy.cut_next(cut)
                wait_for(lambda: not proxy.is_waiting, 30, "a COMMIT comes")
                rig.faults.took("until all partitions land again", rig.progress())
        for cut, count in proxy.fired.items():
            for _ in range(count):
                rig.faults.fired(cut)
        for outcome in ("landed=True", "landed=False"):
            for _ in range(process.log.count(f'is resolved" {outcome}')):
                rig.faults.note(f"resolved: {outcome}")
        rig.settle(process)
    finally:
        proxy.close()
