"""What a chaos test holds: the servers, a topic, landing processes, the load, the count of faults."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from tests.chaos import books
from tests.chaos.faults import Faults
from tests.chaos.landing_process import LandingProcess
from tests.chaos.load import Load
from tests.chaos.servers import KafkaServer, PostgresServer
from tests.integration.ingest_process import write_config
from tests.integration.landing_rig import rows, value
from tests.waiting import wait_for

SESSION = 2.0
"""Seconds: the group's session timeout, unless a test says otherwise."""
_PATIENCE = 60.0
_ADMIN = 20


class Rig:
    def __init__(
        self, kafka: KafkaServer, postgres: PostgresServer, folder: Path, name: str, partitions: int = 4
    ) -> None:
        self.kafka, self.postgres, self.folder, self.topic = kafka, postgres, folder, name
        self.database = postgres.database
        self.faults = Faults()
        self.rng = self.faults.rng
        self.admin = AdminClient({"bootstrap.servers": kafka.address, "log_level": 0})
        self._processes: list[LandingProcess] = []
        self._configs = 0
        self.create_topic(partitions)
        self.load = Load(kafka.address, name, partitions, self.rng)

    def create_topic(self, partitions: int) -> None:
        [made] = self.admin.create_topics([NewTopic(self.topic, partitions, 1)]).values()
        made.result(_ADMIN)

    def add_partitions(self, count: int) -> None:
        """Raise to `count`; the load sends to the new ones too, as soon as it knows them."""
        [made] = self.admin.create_partitions([NewPartitions(self.topic, count)]).values()
        made.result(_ADMIN)
        wait_for(lambda: self.load.knows_partitions(count), 30, "the producer knows the new partitions")
        self.load.partitions = count

    def configure(self, *, database: str | None = None, session: float = SESSION, **ingestion: Any) -> Path:
        """A configuration file in a folder of its own, and so a consumer group of its own."""
        self._configs += 1
        folder = self.folder / f"{self.topic}-{self._configs}"
        folder.mkdir()
        options = {
            "batch_size": self.rng.choice([300, 1000, 5000]),
            "batch_timeout": self.rng.choice(["20ms", "100ms"]),
            "workers": self.rng.choice([1, 2]),
            **ingestion,
        }
        path = write_config(folder, database or self.database, self.kafka.address, [self.topic], **options)
        config = yaml.safe_load(path.read_text())
        config["kafka"]["session_timeout"] = f"{session:g}s"
        config["kafka"]["options"] = {"heartbeat.interval.ms": 300, "reconnect.backoff.max.ms": 500}
        path.write_text(yaml.safe_dump(config))
        return path

    def process(self, config: Path, name: str = "landing") -> LandingProcess:
        made = LandingProcess(config, name)
        self._processes.append(made)
        return made

    def positions(self) -> Counter[int]:
        """`next_offset` of each partition."""
        return Counter(
            dict(
                rows(
                    self.database,
                    "SELECT partition, next_offset FROM ingest_offsets WHERE source = %s",
                    self.topic,
                )
            )
        )

    def caught_up_since(self, time: float) -> int:
        """How many partitions had landed, at that Unix time or later, all that Kafka held."""
        return int(
            value(
                self.database,
                "SELECT count(*) FROM ingest_offsets WHERE source = %s AND caught_up_at >= to_timestamp(%s)",
                self.topic,
                time,
            )
        )

    def kafka_is_silent(self) -> bool:
        """What ingest has written down of it."""
        return bool(
            value(
                self.database,
                "SELECT bool_or(kafka_silent_since IS NOT NULL) FROM ingest_offsets WHERE source = %s",
                self.topic,
            )
        )

    def is_landing(self) -> bool:
        """Whether a landing transaction is open at this moment."""
        return bool(
            value(
                self.database,
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'analytics-landing-%'"
                " AND datname = current_database() AND xact_start IS NOT NULL",
            )
        )

    def is_settled(self, config: Path, members: int) -> bool:
        """Whether Kafka knows so many members of a configuration's group, and is not about to move partitions."""
        group = yaml.safe_load(config.read_text())["kafka"]["group_id"]
        [answer] = self.admin.describe_consumer_groups([group], request_timeout=_ADMIN).values()
        found = answer.result(_ADMIN)
        return found.state == ConsumerGroupState.STABLE and len(found.members) == members

    def progress(self, *, within: float = _PATIENCE, since: Counter[int] | None = None) -> float:
        """Wait until every partition has landed something more; seconds it took."""
        before, start = self.positions() if since is None else since, time.monotonic()
        wait_for(
            lambda: all(at > before[number] for number, at in self._of_all(self.positions()).items()),
            within,
            f"all partitions of {self.topic} land (from {dict(before)})",
        )
        return time.monotonic() - start

    def linger(self, longest: float = 0.5) -> None:
        """A random moment of its work, not a wait for something: any moment is a good one for a fault."""
        time.sleep(self.rng.random() * longest)

    def settle(self, *processes: LandingProcess) -> None:
        """End the load, wait until all of it has landed, stop in order, and compare everything."""
        self.load.finish()
        ends = self.load.ends()
        wait_for(lambda: self.positions() == ends, 120, f"all of {dict(ends)} landed")
        assert [process.stop() for process in processes] == [0] * len(processes)
        books.check(self.database, self.load)
        self.faults.report()

    def close(self) -> None:
        for process in self._processes:
            process.close()
            print(f"--- the end of {process.config.parent.name}'s log\n{process.log[-3000:]}")
        self.load.finish()

    def _of_all(self, positions: Counter[int]) -> dict[int, int]:
        return {number: positions[number] for number in range(self.load.partitions)}
