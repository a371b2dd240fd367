"""An operator moves the offset of a partition under a running worker: it follows, also when nothing comes."""

import pytest

from analytics_pipeline.ingest.memory import MemoryKafka
from analytics_pipeline.storage.offsets import Claim
from tests.unit.ingest.fakes import MemoryDatabase
from tests.unit.ingest.test_worker import P0, P1, Rig, messages

PATIENCE = 10  # of the rig


@pytest.fixture
def rig() -> Rig:
    kafka = MemoryKafka()
    kafka.produce(P0, messages(0, 50))
    kafka.produce(P1, messages(0, 30))
    rig = Rig(kafka, MemoryDatabase())
    rig.step(3)
    return rig


def move(rig: Rig, target: int) -> None:
    rig.database.rows[P0] = Claim(target, rig.database.rows[P0].epoch + 1)


def test_an_idle_partition_is_read_again_from_where_it_was_put(rig: Rig) -> None:
    move(rig, 20)
    rig.step(PATIENCE + 3, seconds=1.0)
    assert rig.database.rows[P0].next_offset == 50
    assert [span.first_offset for span in rig.database.ledger if span.key == P0] == [0, 20]
    assert [span.first_offset for span in rig.database.ledger if span.key == P1] == [0]
    assert len(rig.consumers) == 1


def test_it_is_given_up_before_it_is_claimed_back(rig: Rig) -> None:
    move(rig, 20)
    rig.step(PATIENCE - 2, seconds=1.0)
    assert rig.database.rows[P0] == Claim(20, 2)
    assert P0 not in rig.worker.partitions
    assert P1 in rig.worker.partitions
