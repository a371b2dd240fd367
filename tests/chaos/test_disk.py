"""The disk of Postgres is full, then has room again."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.chaos.disk import Disk, small_disk
from tests.chaos.faults import times
from tests.chaos.rig import Rig
from tests.chaos.servers import KafkaServer, PostgresServer, stopping
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def disk(chaos_folder: Path) -> Iterator[Disk]:
    with small_disk(chaos_folder / "disk") as made:
        yield made


@pytest.fixture
def rig_on_disk(kafka_server: KafkaServer, disk: Disk, tmp_path: Path) -> Iterator[Rig]:
    server = PostgresServer(disk.folder)
    with stopping(server):
        made = Rig(kafka_server, server, tmp_path, f"chaos.{tmp_path.name}")
        yield made
        made.close()


def write_log(database: str) -> None:
    """Until Postgres has no room for it: it panics, all connections end, and recovery has no room either."""
    connection = psycopg.connect(database, autocommit=True)
    statement = (
        "SELECT pg_logical_emit_message(false, 'chaos', repeat('x', 1000000)) FROM generate_series(1, 2000)"
    )
    with pytest.raises(psycopg.OperationalError):
        connection.execute(statement)
    connection.close()


def answers(database: str) -> bool:
    try:
        psycopg.connect(database).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("rounds", times(1, 4))
def test_the_disk_of_postgres_is_full_and_freed(rig_on_disk: Rig, disk: Disk, rounds: int) -> None:
    """Nothing is lost and nobody has to help: landing waits, and goes on. A server that gave up is started again."""
    rig = rig_on_disk
    process = rig.process(rig.configure())
    process.start()
    print(f"the disk is a {disk.kind}")
    with rig.load:
        for number in range(rounds):
            is_log_full = number % 2 == 1 and disk.kind == "tmpfs"
            what = "disk full, of rows and of the write-ahead log" if is_log_full else "disk full"
            rig.faults.plan(what)
            rig.progress()
            refusals = process.log.count("(53100)")
            disk.fill(rig.postgres)
            waits = process.log.count("landing waits")
            if is_log_full:
                write_log(rig.database)
            wait_for(lambda waits=waits: process.log.count("landing waits") > waits + 1, 120, "landing waits")
            rig.faults.fired(what)
            if process.log.count("(53100)") > refusals:
                rig.faults.note("landing was told 53100")
            disk.free()
            wait_for(lambda: answers(rig.database) or not rig.postgres.is_running, 60, "it recovers or ends")
            if not rig.postgres.is_running:
                rig.faults.note("Postgres gave up and was started again")
                rig.postgres.start()
            rig.faults.took("until all partitions land again", rig.progress())
    rig.settle(process)
