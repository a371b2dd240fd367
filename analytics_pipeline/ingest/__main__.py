"""The landing process: `analytics ingest`, or `python -m analytics_pipeline.ingest`.

Belongs here: wiring settings, clients and threads together; signals; the exit code.
"""

import gc
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

import psycopg
import pyarrow as pa
import structlog

from analytics_pipeline import failpoints, logs, tracing
from analytics_pipeline.errors import (
    AnalyticsError,
    ConfigurationError,
    EnvironmentFault,
    SchemaMismatch,
)
from analytics_pipeline.events.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.ingest import watchdog
from analytics_pipeline.ingest.backoff import Backoff
from analytics_pipeline.ingest.consumer import Partition
from analytics_pipeline.ingest.freshness import Freshness
from analytics_pipeline.ingest.inbox_worker import InboxWorker
from analytics_pipeline.ingest.kafka import KafkaConsumer
from analytics_pipeline.ingest.landing_thread import LandingThread
from analytics_pipeline.ingest.listener import Listener
from analytics_pipeline.ingest.ownership import Ownership
from analytics_pipeline.ingest.process import Task, run_together
from analytics_pipeline.ingest.topic_ids import TopicIds
from analytics_pipeline.ingest.topics import create_when_reachable
from analytics_pipeline.ingest.watermarks import Watermarks
from analytics_pipeline.ingest.work_done import work_done
from analytics_pipeline.ingest.worker import Pace, Worker
from analytics_pipeline.settings import Settings, environment, settings
from analytics_pipeline.storage import measuring
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.migrations import check_schema
from analytics_pipeline.storage.series import Admission
from analytics_pipeline.storage.system_metrics import Reporter
from analytics_pipeline.telemetry import PROCESSES

_log = structlog.get_logger(__name__)


def run(settings: Settings, *, tracebacks: bool = False) -> int:
    """Land events until SIGTERM or SIGINT; return the exit code.

    0 after a stop that left nothing in memory, else the code of the error that ended it. What a person has to mend is
    logged as a sentence, and with `tracebacks` with its place in the code, which a defect always has.
    """
    logs.configure(settings.logging, service="ingest")
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        _log.info("stopping", signal=signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    try:
        _arm_fail_point()
        conninfo = settings.database.conninfo()
        listener = Listener(conninfo, is_custom_enabled=settings.custom_events.enabled)
        if not _wait_for_postgres(conninfo, listener, stop):
            return 0
        _tune_interpreter()
        Reporter(conninfo, "ingest", work_done).start()
        PROCESSES.labels("ingest").set(1)
        traces = tracing.start(settings.tracing, "ingest") if settings.tracing.enabled else None
        failure = run_together(_tasks(settings, conninfo, listener, _landers(settings, traces)), stop)
        if traces is not None:
            traces.close()
    except AnalyticsError as error:
        failure = error
    if failure is None:
        _log.info("stopped")
        return 0
    is_foreseen = isinstance(failure, ConfigurationError | EnvironmentFault)
    shown = None if is_foreseen and not tracebacks else failure
    _log.error("landing ended", error=type(failure).__name__, reason=str(failure), exc_info=shown)
    return failure.exit_code if isinstance(failure, AnalyticsError) else 1


def _tune_interpreter() -> None:
    """For threads that wait in C most of the time, and hold tens of thousands of messages.

    A collection looks at all of them and finds nothing, for messages are in no cycles. A COPY asks for the
    interpreter's lock once for every buffer it sends, and would wait up to 5 ms for it each time.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    sys.setswitchinterval(0.0005)
    # Arrow's own allocator keeps what it was given once: some 40 MB more at the same speed.
    pa.set_memory_pool(pa.system_memory_pool())


def _arm_fail_point() -> None:
    what = environment().get(failpoints.VARIABLE, "")
    if what:
        _log.warning("this process will end itself: only for tests", fail_at=what)
    try:
        failpoints.arm(what)
    except ValueError as error:
        raise ConfigurationError(f"{failpoints.VARIABLE}: {error}") from None


def _wait_for_postgres(conninfo: str, listener: Listener, stop: threading.Event) -> bool:
    """Wait until Postgres is there; False when stopped before.

    Raises:
        SchemaMismatch: it is there, but at another version.
    """
    backoff = Backoff()
    while not stop.is_set():
        try:
            with connection(conninfo, name="ingest", autocommit=True) as opened:
                check_schema(opened)
                listener.load(opened)
                return True
        except SchemaMismatch:
            raise
        except (EnvironmentFault, psycopg.Error) as error:
            _log.warning("waiting for Postgres", reason=str(error))
            stop.wait(backoff.next())
    return False


def _landers(settings: Settings, traces: tracing.Traces | None) -> Callable[..., Lander]:
    """What makes landing connections: traced ones where that is asked for."""
    if traces is None:
        return Lander
    from analytics_pipeline.ingest.traced_lander import TracedLander

    return partial(TracedLander, traces=traces, namespace=settings.kafka.group_id)


def _tasks(
    settings: Settings, conninfo: str, listener: Listener, make_lander: Callable[..., Lander]
) -> dict[str, Task]:
    ingestion, limits = settings.analytics.ingestion, Limits.of(settings)
    # Connections of this process have one name, so that they never end each other.
    name = f"landing-{secrets.token_hex(4)}"
    admission = Admission(conninfo)
    inbox = InboxWorker(
        lander=make_lander(conninfo, name=name, catalog=lambda: listener.catalog, admission=admission),
        definitions=lambda: listener.current,
        limits=limits,
        batch_size=ingestion.batch_size,
        poll=ingestion.inbox_poll.total_seconds(),
        pace=ingestion.batch_timeout.total_seconds(),
        woken=listener.woken,
    )
    tasks: dict[str, Task] = {
        "listener": listener.run,
        "watchdog": partial(watchdog.run, conninfo),
        "inbox": inbox.run,
        "measuring": partial(measuring.run, settings, "ingest", conninfo),
    }
    if not settings.kafka.enabled:
        _log.info("kafka.enabled is false: only posted events are landed")
        return tasks

    workers: list[Worker] = []

    def owned() -> list[Partition]:
        return [key for worker in workers for key in worker.partitions]

    watermarks, topic_ids = Watermarks(settings.kafka, owned), TopicIds(settings.kafka)
    capacity = max(1, ingestion.buffer_size // ingestion.workers)
    pace = Pace(
        batch_size=min(ingestion.batch_size, capacity),
        batch_timeout=ingestion.batch_timeout.total_seconds(),
        capacity=capacity,
    )
    for number in range(ingestion.workers):
        landings = LandingThread(
            make_lander(conninfo, name=name, catalog=lambda: listener.catalog, admission=admission)
        )
        ownership = Ownership(
            landings,
            is_from_start=settings.kafka.auto_offset_reset == "earliest",
            make_limit=partial(
                DeadLetterLimit, ingestion.dead_letter_ratio, ingestion.dead_letter_consecutive
            ),
            topic_ids=topic_ids,
            patience=2 * settings.kafka.session_timeout.total_seconds(),
        )
        worker = Worker(
            make_consumer=partial(KafkaConsumer, settings.kafka, queued_messages=capacity),
            topics=settings.kafka.topics,
            landings=landings,
            ownership=ownership,
            freshness=Freshness(
                landings,
                ownership,
                watermarks,
                silent_since=lambda: topic_ids.silent_since,
                stall_after=ingestion.stall_timeout.total_seconds(),
            ),
            definitions=lambda: listener.current,
            limits=limits,
            pace=pace,
        )
        workers.append(worker)
        tasks[f"worker-{number}"] = worker.run
    tasks["watermarks"] = watermarks.run
    tasks["topic-ids"] = topic_ids.run
    tasks["topics"] = partial(create_when_reachable, settings.kafka)
    return tasks


if __name__ == "__main__":
    sys.exit(run(settings()))
