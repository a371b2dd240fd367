"""One Kafka and one Postgres for all chaos tests, and what each test needs around them.

The short form of a scenario runs with all other tests; the long one is marked `long` and runs by `make chaos`.
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.rig import Rig
from tests.chaos.servers import KafkaServer, PostgresServer, stopping

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def chaos_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="b25-chaos-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def kafka_server(chaos_folder: Path) -> Iterator[KafkaServer]:
    server = KafkaServer(chaos_folder)
    with stopping(server):
        yield server


@pytest.fixture(scope="package")
def postgres_server(chaos_folder: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(chaos_folder)
    with stopping(server):
        yield server


@pytest.fixture
def rig(
    kafka_server: KafkaServer,
    postgres_server: PostgresServer,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Rig]:
    """With a topic of 4 partitions, or of as many as the test's parameter says."""
    partitions = getattr(request, "param", 4)
    made = Rig(kafka_server, postgres_server, tmp_path, f"chaos.{next(_numbers)}", partitions)
    yield made
    made.close()
