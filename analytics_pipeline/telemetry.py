"""Prometheus series of every process, and the endpoint that serves them together.

Belongs here: the names, labels and help of all series; label values are bounded (never an event type or a user).
Does not belong here: measuring; the code that does the work calls these.

With `metrics.folder` set, the processes of one machine share it (prometheus_client's multiprocess mode) and any
of them can serve the sum. The folder has to be in the environment before prometheus_client is first imported,
therefore `analytics` sets it for every process it starts.
"""

import fcntl
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, multiprocess, values
from prometheus_client.metrics import MetricWrapperBase

from analytics_pipeline.settings import SHARED_FOLDER

_IS_SHARED = values.ValueClass.__name__ == "MmapedValue"
_HOST = socket.gethostname().replace("_", "-")
_LIVE_GAUGES = "gauge_live*_*.db"
_NEWEST_GAUGES = "gauge_livemostrecent_*.db"


def _identity() -> str:
    """Containers that share the folder have the same process ids, but never the same host name."""
    return f"{_HOST}-{os.getpid()}"


class _Presence:
    """A lock that this process holds while it lives: the kernel lets go of it, however the process ends.

    Gauges of a process are only true while it lives; whoever serves the series looks at the locks (`LiveCollector`).
    """

    def __init__(self) -> None:
        self._folder = Path(os.environ[SHARED_FOLDER])  # noqa: TID251 - prometheus_client's own
        self._file = -1
        self.announce()
        os.register_at_fork(after_in_child=self.announce)

    def announce(self) -> None:
        """Take the lock of this process; what an earlier process of the same identity left behind is forgotten."""
        if self._file >= 0:
            os.close(self._file)  # the parent keeps its own
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(
            _lock_of(self._folder, _identity()), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        fcntl.flock(self._file, fcntl.LOCK_EX)
        multiprocess.mark_process_dead(_identity(), str(self._folder))  # type: ignore[no-untyped-call]


def _lock_of(folder: Path, identity: str) -> Path:
    return folder / f"{identity}.alive"


def _is_alive(folder: Path, identity: str) -> bool:
    try:
        file = os.open(_lock_of(folder, identity), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # somebody else's: leave it alone
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


class LiveCollector(multiprocess.MultiProcessCollector):
    """The series of all processes that share a folder; gauges of those that have ended, killed ones too, are gone."""

    def __init__(self, registry: CollectorRegistry | None, folder: Path) -> None:
        self._folder = folder
        super().__init__(registry, path=str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        """Forget the dead, then read."""
        _forget_the_dead(self._folder)
        found: Iterable[Metric] = super().collect()  # type: ignore[no-untyped-call]
        return found


def _forget_the_dead(folder: Path) -> None:
    for path in folder.glob(_LIVE_GAUGES):
        identity = path.stem.split("_", 2)[2]
        if not _is_alive(folder, identity):
            multiprocess.mark_process_dead(identity, str(folder))  # type: ignore[no-untyped-call]


def newest_values(gauge: Gauge, *labels: str) -> dict[tuple[str, ...], float]:
    """What living processes of this machine last set a gauge of mode `livemostrecent` to, by these of its labels.

    Without a shared folder that is this process alone. Only files of such gauges are read, so it is cheap.
    """
    families = list(gauge.collect())
    if _IS_SHARED:
        folder = Path(os.environ[SHARED_FOLDER])  # noqa: TID251 - prometheus_client's own
        _forget_the_dead(folder)
        files = [str(path) for path in folder.glob(_NEWEST_GAUGES)]
        names = {family.name for family in families}
        merged: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        families = [family for family in merged if family.name in names]
    return {
        tuple(sample.labels[name] for name in labels): sample.value
        for family in families
        for sample in family.samples
    }


def of_this_process(
    series: MetricWrapperBase, suffix: str, wanted: Callable[[Mapping[str, str]], bool] = lambda _: True
) -> float:
    """The sum over those labels of a series that are wanted, without what other processes of the folder counted."""
    return sum(
        sample.value
        for family in series.collect()
        for sample in family.samples
        if sample.name.endswith(suffix) and wanted(sample.labels)
    )


if _IS_SHARED:
    values.ValueClass = values.MultiProcessValue(_identity)  # type: ignore[no-untyped-call]
    _presence = _Presence()

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZE_BUCKETS = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)

EVENTS_INGESTED = Counter("analytics_events_ingested_total", "Events stored")
EVENTS_FAILED = Counter("analytics_events_failed_total", "Dead letters, by reason code", ["reason"])
EVENTS_DUPLICATE = Counter("analytics_events_duplicate_total", "Events that were stored already")
UNKNOWN_FIELDS = Counter(
    "analytics_unknown_fields_total", "Top-level fields that are not part of the contract, ignored"
)
BATCHES_PROCESSED = Counter("analytics_batches_processed_total", "Landing transactions committed")
BATCH_DURATION = Histogram(
    "analytics_batch_duration_seconds", "From the first decoded row to COMMIT", buckets=LATENCY_BUCKETS
)
INGEST_LAG = Gauge(
    "analytics_ingest_lag",
    "Messages in Kafka that have not landed",
    ["topic", "partition"],
    multiprocess_mode="livemostrecent",
)
INGEST_KAFKA_SILENT = Gauge(
    "analytics_ingest_kafka_silent_seconds",
    "For how long Kafka has answered no question of an ingest process, of the one that waits longest; 0: it answers",
    multiprocess_mode="livemax",
)
INGEST_STOPPED = Gauge(
    "analytics_ingest_partitions_stopped",
    "Partitions that stand still until a person decides, by why: dead_letters, topic_recreated, messages_deleted",
    ["topic", "reason"],
    multiprocess_mode="livesum",
)
BATCH_ROWS = Histogram(
    "analytics_ingest_batch_rows", "Messages read by a landing transaction", buckets=SIZE_BUCKETS
)
FALLBACK_BATCHES = Counter(
    "analytics_ingest_fallback_batches_total",
    "Batches that took the slower way, because some events were stored already",
)
LANDING_STEP_SECONDS = Counter(
    "analytics_landing_step_seconds_total",
    "Where the time of landing transactions goes: begin, events, dead_letters, deltas, ledger, gaps, offsets, commit",
    ["step"],
)
LANDING_RETRIES = Counter(
    "analytics_landing_retries_total",
    "Landing transactions begun anew at once: deadlock or serialization failure",
)
LANDING_ROLLBACKS = Counter(
    "analytics_landing_rollbacks_total",
    "Landing transactions that did not commit: moved, timed_out, commit_unknown, missing_partition, environment",
    ["reason"],
)
COMMITS_UNKNOWN = Counter(
    "analytics_commits_unknown_total",
    "COMMITs without an answer, by what had become of them: landed, not_landed",
    ["outcome"],
)
INGEST_PARTITIONS = Gauge(
    "analytics_ingest_partitions",
    "Partitions by state: owned, paused (back-pressure), stopped",
    ["state"],
    multiprocess_mode="livesum",
)
INGEST_STALLED = Gauge(
    "analytics_ingest_partitions_stalled",
    "Partitions that stand still for stall_timeout although Kafka holds more: fetch (nothing comes), landing",
    ["kind"],
    multiprocess_mode="livesum",
)
INGEST_STALLS = Counter(
    "analytics_ingest_stalls_total",
    "How often a partition was found stalled, and read by a new consumer",
    ["kind"],
)
INGEST_FRESHNESS = Gauge(
    "analytics_ingest_freshness_seconds",
    "Since when everything that Kafka held has landed; grows while nobody reads the partition",
    ["topic", "partition"],
    multiprocess_mode="livemostrecent",
)
LANDING_CONNECTIONS = Gauge(
    "analytics_landing_connections",
    "Connections of all ingest processes that land",
    multiprocess_mode="livemostrecent",
)
OPEN_STREAMS = Gauge(
    "analytics_api_open_streams", "Streams of server-sent events that are open", multiprocess_mode="livesum"
)
INBOX_EVENTS = Gauge(
    "analytics_inbox_events", "Posted events that have not landed", multiprocess_mode="livemostrecent"
)
INBOX_OLDEST = Gauge(
    "analytics_inbox_oldest_seconds",
    "Age of the oldest posted event that has not landed",
    multiprocess_mode="livemostrecent",
)
TABLE_BYTES = Gauge(
    "analytics_table_bytes",
    "Size of a table with its indexes, or of all that is partitioned by time under one name; dagster is all of "
    "Dagster's. Once a minute",
    ["table"],
    multiprocess_mode="livemostrecent",
)
TABLE_ROWS = Gauge(
    "analytics_table_rows",
    "Rows of the same tables as Postgres estimates them: live, and dead ones that a vacuum will remove",
    ["table", "state"],
    multiprocess_mode="livemostrecent",
)
PARTITIONS_AHEAD = Gauge(
    "analytics_partitions_ahead_days",
    "For how many more days rows of a partitioned table have a partition",
    ["table"],
    multiprocess_mode="livemostrecent",
)
RETENTION_OVERDUE = Gauge(
    "analytics_retention_overdue_seconds",
    "For how long the oldest partition should have been removed; 0 when none should, or cleanup_enabled is false",
    multiprocess_mode="livemostrecent",
)
DEFINITION_LOADS = Counter(
    "analytics_definition_loads_total", "Times that a process loaded the custom event definitions"
)
DEFINITIONS_ACTIVE = Gauge(
    "analytics_definitions_active",
    "Custom event definitions in force",
    multiprocess_mode="livemostrecent",
)
METRIC_SERIES = Gauge(
    "analytics_metric_series",
    "Series with a place of their own in the present UTC day",
    ["metric", "group_by"],
    multiprocess_mode="livemostrecent",
)
METRIC_OTHER = Counter(
    "analytics_metric_other_total", "Events counted under __other__", ["metric", "group_by"]
)
QUERY_DURATION = Histogram(
    "analytics_query_duration_seconds", "Database query duration", ["query"], buckets=LATENCY_BUCKETS
)
CACHE_HITS = Counter("analytics_cache_hits_total", "Reads answered from the cache: local, redis", ["level"])
CACHE_MISSES = Counter("analytics_cache_misses_total", "Reads that had to ask Postgres")
AUTHENTICATION_FAILURES = Counter(
    "analytics_authentication_failures_total",
    "Requests without a key that holds: api-key-required, invalid-api-key, csrf-token",
    ["kind"],
)
AUDIT_LINES_LOST = Counter(
    "analytics_audit_lines_lost_total", "Lines of the audit log that Postgres did not take in time"
)
HTTP_REQUESTS = Counter("analytics_http_requests_total", "Requests", ["method", "route", "status"])
HTTP_DURATION = Histogram(
    "analytics_http_request_duration_seconds", "Request duration", ["route"], buckets=LATENCY_BUCKETS
)
SYSTEM_METRICS_SKIPPED = Counter(
    "analytics_system_metrics_skipped_total", "Minutes whose system_metrics could not be written"
)
PROCESSES = Gauge(
    "analytics_processes", "Processes that run, by service", ["service"], multiprocess_mode="livesum"
)
POSTGRES_UP = Gauge(
    "analytics_postgres_up",
    "Whether Postgres answers a service: 0 as soon as one of its processes gets no answer",
    ["service"],
    multiprocess_mode="livemin",
)
CACHE_UP = Gauge(
    "analytics_cache_up",
    "Whether Redis answered a service when it was last asked: 0 as soon as one of its processes got no answer",
    ["service"],  # without a label, processes that never ask would count as refused
    multiprocess_mode="livemin",
)
LEDGER_BROKEN = Gauge(
    "analytics_ledger_broken",
    "Places where a balance of the ledger's last hour does not hold",
    ["check"],
    multiprocess_mode="livemostrecent",
)
ROLLUP_PENDING = Gauge(
    "analytics_rollup_pending_deltas",
    "Deltas that no live merge has settled",
    multiprocess_mode="livemostrecent",
)
ROLLUP_PENDING_AGE = Gauge(
    "analytics_rollup_pending_seconds",
    "Age of the oldest delta that no live merge has settled",
    multiprocess_mode="livemostrecent",
)
DATABASE_BYTES = Gauge(
    "analytics_postgres_database_bytes", "Size of the database", multiprocess_mode="livemostrecent"
)
POSTGRES_CONNECTIONS = Gauge(
    "analytics_postgres_connections",
    "Connections to the database by state",
    ["state"],
    multiprocess_mode="livemostrecent",
)
POSTGRES_CONNECTIONS_MOST = Gauge(
    "analytics_postgres_max_connections",
    "Connections that the server allows",
    multiprocess_mode="livemostrecent",
)
POSTGRES_OLDEST_TRANSACTION = Gauge(
    "analytics_postgres_oldest_transaction_seconds",
    "Age of the oldest transaction in the database",
    multiprocess_mode="livemostrecent",
)
POSTGRES_WAITING = Gauge(
    "analytics_postgres_waiting_for_locks",
    "Connections that wait for a lock",
    multiprocess_mode="livemostrecent",
)
POSTGRES_WAL = Gauge(
    "analytics_postgres_wal_written_bytes",
    "Write-ahead log since the server was made",
    multiprocess_mode="livemostrecent",
)
POSTGRES_TRANSACTIONS = Gauge(
    "analytics_postgres_transactions",
    "Transactions since the server's statistics began, by how they ended",
    ["outcome"],
    multiprocess_mode="livemostrecent",
)
POSTGRES_BLOCKS = Gauge(
    "analytics_postgres_block_reads",
    "Blocks read since the server's statistics began, by where they were: cache or disk",
    ["place"],
    multiprocess_mode="livemostrecent",
)
POSTGRES_TEMPORARY = Gauge(
    "analytics_postgres_temporary_bytes",
    "Written to temporary files since the server's statistics began",
    multiprocess_mode="livemostrecent",
)
POSTGRES_DEADLOCKS = Gauge(
    "analytics_postgres_deadlocks",
    "Deadlocks since the server's statistics began",
    multiprocess_mode="livemostrecent",
)
POSTGRES_TRANSACTION_AGE = Gauge(
    "analytics_postgres_transaction_id_age",
    "Transactions since the oldest row that is not frozen; the server stops at two thousand million",
    multiprocess_mode="livemostrecent",
)
DISK_BYTES = Gauge(
    "analytics_disk_bytes",
    "The disk that holds the state folder, as a service sees it: its size, and what is free for us",
    ["service", "kind"],
    multiprocess_mode="livemostrecent",
)
DAGSTER_RUNS = Gauge(
    "analytics_dagster_runs",
    "Runs of Dagster by state: waiting and started now, the others in the last hour",
    ["state"],
    multiprocess_mode="livemostrecent",
)
DAGSTER_CHECKS_FAILED = Gauge(
    "analytics_dagster_checks_failed",
    "Assets whose latest asset check of that name failed",
    ["check"],
    multiprocess_mode="livemostrecent",
)
DAGSTER_HEARTBEAT = Gauge(
    "analytics_dagster_heartbeat_seconds",
    "Since when a part of Dagster's daemon was last heard of",
    ["daemon"],
    multiprocess_mode="livemostrecent",
)
