"""Prometheus series of every process, and the endpoint that serves them together.

Belongs here: the names, labels and help of all series; label values are bounded (never an event type or a user).
Does not belong here: measuring; the code that does the work calls these.

With `metrics.folder` set, the processes of one machine share it (prometheus_client's multiprocess mode) and any
of them can serve the sum. `configure` has to run before this module's series are imported by other modules,
therefore `analytics` sets the folder in the environment of every process it starts.
"""

import os
import socket
from collections.abc import Callable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    make_wsgi_app,
    multiprocess,
    values,
)

if values.ValueClass.__name__ == "MmapedValue":
    # Containers that share the folder have the same process ids, but never the same host name.
    _HOST = socket.gethostname().replace("_", "-")
    values.ValueClass = values.MultiProcessValue(lambda: f"{_HOST}-{os.getpid()}")  # type: ignore[no-untyped-call]

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

EVENTS_INGESTED = Counter("analytics_events_ingested_total", "Events stored")
EVENTS_FAILED = Counter("analytics_events_failed_total", "Events that became dead letters", ["reason"])
EVENTS_DUPLICATE = Counter("analytics_events_duplicate_total", "Events that were stored already")
UNKNOWN_FIELDS = Counter(
    "analytics_unknown_fields_total", "Top-level fields that are not part of the contract"
)
BATCHES_PROCESSED = Counter("analytics_batches_processed_total", "Landing transactions committed")
BATCH_DURATION = Histogram(
    "analytics_batch_duration_seconds", "From the first decoded row to COMMIT", buckets=LATENCY_BUCKETS
)
INGEST_LAG = Gauge(
    "analytics_ingest_lag",
    "Messages in Kafka that have not landed",
    ["topic", "partition"],
    multiprocess_mode="mostrecent",
)
INGEST_PAUSED = Gauge(
    "analytics_ingest_partitions_stopped",
    "Partitions stopped by an error a person must look at",
    multiprocess_mode="livesum",
)
QUERY_DURATION = Histogram(
    "analytics_query_duration_seconds", "Database query duration", ["query"], buckets=LATENCY_BUCKETS
)
CACHE_HITS = Counter("analytics_cache_hits_total", "Reads answered from the cache", ["level"])
CACHE_MISSES = Counter("analytics_cache_misses_total", "Reads that had to ask Postgres")
HTTP_REQUESTS = Counter("analytics_http_requests_total", "Requests", ["method", "route", "status"])
HTTP_DURATION = Histogram(
    "analytics_http_request_duration_seconds", "Request duration", ["route"], buckets=LATENCY_BUCKETS
)
Wsgi = Callable[[WSGIEnvironment, StartResponse], Any]


def metrics_app() -> Wsgi:
    """The WSGI application that answers with the series of all processes of this machine."""
    registry = CollectorRegistry()
    if values.ValueClass.__name__ == "MmapedValue":
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        from prometheus_client import REGISTRY

        registry = REGISTRY
    return make_wsgi_app(registry)
