"""Reads everything again and again, in threads, so that what is away holds up nothing else.

Belongs here: asking side by side, connecting again, what failed as a sentence. Does not belong here: showing it.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import psycopg
from confluent_kafka import KafkaException

from analytics_pipeline.errors import AnalyticsError, EnvironmentFault
from analytics_pipeline.ingest.consumer import Partition
from analytics_pipeline.ingest.topics import admin, ends
from analytics_pipeline.local_stack.state import StateFolder
from analytics_pipeline.overview.exposed import Exposed
from analytics_pipeline.overview.moment import Moment
from analytics_pipeline.overview.processes import Processes
from analytics_pipeline.overview.troubles import Reader
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage import overview
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.dead_letters import Filter, Letter, Status, find
from analytics_pipeline.storage.migrations import check_schema
from analytics_pipeline.storage.standings import read_standings

_MOST = 30
_KAFKA_TIME = 2.0
_STATEMENT_TIME = "4s"

Part = TypeVar("Part")


class _Stored(NamedTuple):
    """What Postgres told."""

    sources: list[overview.SourceRate]
    types: list[overview.TypeRate]
    rollups: overview.RollupState
    letters: list[Letter]
    landed: dict[Partition, int]


class Watch:
    """Reads moments; `latest` never blocks."""

    def __init__(
        self, settings: Settings, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._settings = settings
        self._now = now
        self._opened: Connection | None = None
        self._client = admin(settings.kafka) if settings.kafka.enabled else None
        self._exposed = Exposed(settings.metrics)
        self._processes = Processes(StateFolder(settings.local_stack.state_folder))
        self._troubles = Reader(settings)
        self._pool = ThreadPoolExecutor(5, "overview")
        self._latest: Moment | None = None
        self._ended = threading.Event()

    @property
    def latest(self) -> Moment | None:
        """The newest moment; None before the first."""
        return self._latest

    def start(self, interval: float) -> None:
        """Begin to read every so many seconds."""
        threading.Thread(target=self._run, args=(interval,), name="overview", daemon=True).start()

    def close(self) -> None:
        """Read no more; a question that is on its way ends with its connection."""
        self._ended.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._troubles.close()
        if self._opened is not None:
            self._opened.close()

    def read(self) -> Moment:
        """One moment."""
        problems: dict[str, str] = {}

        def ask(part: str, question: Callable[[], Part]) -> Callable[[], Part | None]:
            running = self._pool.submit(question)

            def answer() -> Part | None:
                try:
                    return running.result()
                except AnalyticsError as error:
                    problems[part] = str(error)
                except psycopg.Error as error:
                    problems[part] = (
                        f"Postgres did not answer the question ({error.sqlstate or type(error).__name__})"
                    )
                return None

            return answer

        at = self._now()
        asked_postgres = ask("postgres", lambda: self._stored(at))
        asked_troubles = ask("pipeline", lambda: self._troubles.read(at))
        asked_kafka = ask("kafka", self._ends)
        asked_api = ask("metrics", self._exposed.read)
        asked_processes = ask("processes", self._processes.read)
        stored, held, api, processes = asked_postgres(), asked_kafka(), asked_api(), asked_processes()
        troubles = asked_troubles() or []
        if "postgres" in problems:
            problems.pop("pipeline", None)  # for the same reason
        lag = _lag(held or {}, stored.landed if stored else {}, is_known=stored is not None)
        if stored is None:
            return Moment(
                at,
                lag=lag,
                api=api,
                processes=processes or [],
                problems=problems,
                pipeline_problems=troubles,
            )
        return Moment(
            at,
            stored.sources,
            lag,
            stored.types,
            stored.rollups,
            stored.letters,
            api,
            processes or [],
            problems,
            troubles,
        )

    def _run(self, interval: float) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                self._latest = self.read()
            except RuntimeError:  # the pool is closed: the view has ended
                return
            self._ended.wait(max(0.1, interval - (time.monotonic() - began)))

    def _stored(self, at: datetime) -> _Stored:
        try:
            opened = self._connection()
            return _Stored(
                overview.rates(opened, now=at),
                overview.types(opened, now=at, most=_MOST),
                overview.rollup_state(opened, now=at),
                find(opened, Filter(statuses=(Status.OPEN,)), limit=_MOST, before=None),
                {
                    (row.source, row.partition): row.next_offset
                    for row in read_standings(opened)
                    if not row.is_retired
                },
            )
        except (psycopg.Error, AnalyticsError):
            if self._opened is not None:
                self._opened.close()
            self._opened = None
            raise

    def _connection(self) -> Connection:
        if self._opened is None:
            conninfo = self._settings.database.conninfo()
            self._opened = connect(conninfo, name="top", autocommit=True, statement_timeout=_STATEMENT_TIME)
            check_schema(self._opened)
        return self._opened

    def _ends(self) -> dict[Partition, int]:
        if self._client is None:
            return {}
        kafka = self._settings.kafka
        fault = EnvironmentFault(f"Kafka at {', '.join(kafka.brokers)} does not answer")
        try:
            known = self._client.list_topics(timeout=_KAFKA_TIME).topics
        except KafkaException:
            raise fault from None
        partitions = [
            (name, number) for name in kafka.topics if name in known for number in known[name].partitions
        ]
        found = ends(self._client, partitions, timeout=_KAFKA_TIME)
        if found is None:
            raise fault
        return found


def _lag(
    held: dict[Partition, int], landed: dict[Partition, int], *, is_known: bool
) -> dict[str, dict[int, int | None]]:
    """What waits by topic and partition: None where one of the two sides is not known."""
    found: dict[str, dict[int, int | None]] = {}
    for topic, number in sorted(held.keys() | landed.keys()):
        end, at = held.get((topic, number)), landed.get((topic, number))
        # A partition that nobody has read yet has landed nothing.
        at = 0 if at is None and is_known else at
        found.setdefault(topic, {})[number] = None if end is None or at is None else max(0, end - at)
    return found
