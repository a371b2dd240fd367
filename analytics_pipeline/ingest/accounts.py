"""The numbers that a landed batch adds to: Prometheus series and the log."""

from collections import Counter

import structlog

from analytics_pipeline.ingest.consumer import Partition
from analytics_pipeline.storage.landing import Landed
from analytics_pipeline.telemetry import (
    BATCH_DURATION,
    BATCHES_PROCESSED,
    EVENTS_DUPLICATE,
    EVENTS_FAILED,
    EVENTS_INGESTED,
    INGEST_LAG,
    UNKNOWN_FIELDS,
)

_log = structlog.get_logger(__name__)


def landed(batch: Landed) -> None:
    """Count a committed batch."""
    stored = sum(line.stored for line in batch.lines)
    duplicate = sum(line.duplicate for line in batch.lines)
    reasons = Counter(letter.reason.value for letter in batch.dead)
    EVENTS_INGESTED.inc(stored)
    EVENTS_DUPLICATE.inc(duplicate)
    for reason, count in reasons.items():
        EVENTS_FAILED.labels(reason).inc(count)
    UNKNOWN_FIELDS.inc(batch.unknown_fields)
    BATCHES_PROCESSED.inc()
    BATCH_DURATION.observe(batch.seconds)
    _log.debug(
        "batch landed",
        batch_id=batch.batch_id,
        stored=stored,
        duplicate=duplicate,
        dead=dict(reasons),
        seconds=round(batch.seconds, 4),
        fallback=batch.used_fallback,
        offsets=[
            f"{line.source}/{line.partition}@{line.first_offset}-{line.next_offset}" for line in batch.lines
        ],
    )


def lag(partition: Partition, messages: int) -> None:
    """Note how many messages of a partition have not landed."""
    INGEST_LAG.labels(partition[0], str(partition[1])).set(max(0, messages))
