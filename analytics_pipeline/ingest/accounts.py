"""The numbers and log lines of landing: Prometheus series, and one line for each partition of a batch.

Belongs here: what an outcome counts as.
Does not belong here: names of series (`telemetry`), outcomes (`storage.landing`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from weakref import WeakKeyDictionary

import structlog

from analytics_pipeline.errors import AnalyticsError, MissingPartition
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.ingest.consumer import Partition
from analytics_pipeline.ingest.stalls import Kind
from analytics_pipeline.rollups.catalog import BUILT_IN, dimension_set_name
from analytics_pipeline.storage.books import Waiting
from analytics_pipeline.storage.landing import CommitUnknown, Landed, TimedOut
from analytics_pipeline.storage.offsets import Moved, Span
from analytics_pipeline.storage.standings import StopReason
from analytics_pipeline.telemetry import (
    BATCH_DURATION,
    BATCH_ROWS,
    BATCHES_PROCESSED,
    COMMITS_UNKNOWN,
    EVENTS_DUPLICATE,
    EVENTS_FAILED,
    EVENTS_INGESTED,
    FALLBACK_BATCHES,
    INBOX_EVENTS,
    INBOX_OLDEST,
    INGEST_FRESHNESS,
    INGEST_KAFKA_SILENT,
    INGEST_LAG,
    INGEST_PARTITIONS,
    INGEST_STALLED,
    INGEST_STALLS,
    INGEST_STOPPED,
    LANDING_CONNECTIONS,
    LANDING_ROLLBACKS,
    LANDING_STEP_SECONDS,
    METRIC_OTHER,
    METRIC_SERIES,
    UNKNOWN_FIELDS,
)

_log = structlog.get_logger(__name__)

_REASONS: dict[type[AnalyticsError], str] = {
    Moved: "moved",
    TimedOut: "timed_out",
    CommitUnknown: "commit_unknown",
    MissingPartition: "missing_partition",
}
_OTHER_REASON = "environment"

# A series of a reason that has not come yet says 0, so that an increase from nothing is an increase.
for _reason in Reason:
    EVENTS_FAILED.labels(_reason.value)
for _name in (*_REASONS.values(), _OTHER_REASON):
    LANDING_ROLLBACKS.labels(_name)
for _outcome in ("landed", "not_landed"):
    COMMITS_UNKNOWN.labels(_outcome)
for _kind in Kind:
    INGEST_STALLED.labels(_kind.value)
    INGEST_STALLS.labels(_kind.value)
for _metric in BUILT_IN.metrics:
    for _dimensions in filter(None, _metric.dimension_sets):
        METRIC_OTHER.labels(_metric.name, dimension_set_name(_dimensions))

_states: WeakKeyDictionary[object, Counter[str]] = WeakKeyDictionary()
_stalled: WeakKeyDictionary[object, Counter[Kind]] = WeakKeyDictionary()
_with_places: set[tuple[str, str]] = set()


def landed(batch: Landed) -> None:
    """Count a committed batch."""
    reasons = Counter(letter.reason.value for letter in batch.dead)
    EVENTS_INGESTED.inc(sum(line.stored for line in batch.lines))
    EVENTS_DUPLICATE.inc(sum(line.duplicate for line in batch.lines))
    for reason, count in reasons.items():
        EVENTS_FAILED.labels(reason).inc(count)
    UNKNOWN_FIELDS.inc(batch.unknown_fields)
    BATCHES_PROCESSED.inc()
    BATCH_DURATION.observe(batch.seconds)
    BATCH_ROWS.observe(sum(line.read for line in batch.lines))
    FALLBACK_BATCHES.inc(batch.used_fallback)
    for step, seconds in batch.steps.items():
        LANDING_STEP_SECONDS.labels(step).inc(seconds)
    for (metric, dimension_set), count in batch.others.items():
        METRIC_OTHER.labels(metric, dimension_set).inc(count)
    for line in batch.lines:
        _log.debug(
            "batch landed",
            batch_id=batch.batch_id,
            topic=line.source,
            partition=line.partition,
            first_offset=line.first_offset,
            next_offset=line.next_offset,
            stored=line.stored,
            duplicate=line.duplicate,
            dead=line.dead,
            seconds=round(batch.seconds, 4),
            fallback=batch.used_fallback,
        )


def failed(error: AnalyticsError) -> None:
    """Count a landing transaction that did not commit, or whose COMMIT got no answer."""
    LANDING_ROLLBACKS.labels(_REASONS.get(type(error), _OTHER_REASON)).inc()


def resolved(spans: Sequence[Span], is_landed: bool) -> None:
    """Count a COMMIT without an answer once it is known what became of it."""
    COMMITS_UNKNOWN.labels("landed" if is_landed else "not_landed").inc()
    _log.info("a COMMIT without an answer is resolved", landed=is_landed, offsets=offsets(spans))


def offsets(spans: Iterable[Span]) -> list[str]:
    """The partitions and offsets of a batch, for a log line about all of it: `topic/partition@first-next`."""
    return [f"{span.source}/{span.partition}@{span.first_offset}-{span.next_offset}" for span in spans]


def lag(partition: Partition, messages: int) -> None:
    """Note how many messages of a partition have not landed."""
    INGEST_LAG.labels(partition[0], str(partition[1])).set(max(0, messages))


def claimed(partition: Partition) -> None:
    """Say of its topic that nothing is stopped, so that one that stops is an increase."""
    for reason in StopReason:
        INGEST_STOPPED.labels(partition[0], reason.value)


def stopped(partition: Partition, reason: StopReason) -> None:
    """Count a partition that is stopped until a person has decided."""
    INGEST_STOPPED.labels(partition[0], reason.value).inc()


def goes_on(partition: Partition, reason: StopReason) -> None:
    """Count a stopped partition that is ours no more, or was decided about."""
    INGEST_STOPPED.labels(partition[0], reason.value).dec()


def silence(seconds: float) -> None:
    """Note for how long Kafka has answered nothing at all; 0: it answers."""
    INGEST_KAFKA_SILENT.set(seconds)


def partitions(owner: object, *, owned: int, paused: int, stopped: int) -> None:
    """Note the partitions of one worker; the series is the sum of all workers of this process."""
    _states[owner] = Counter(owned=owned, paused=paused, stopped=stopped)
    for state in ("owned", "paused", "stopped"):
        INGEST_PARTITIONS.labels(state).set(sum(one[state] for one in list(_states.values())))


def stalled(owner: object, kinds: Iterable[Kind]) -> None:
    """Note the stalled partitions of one worker."""
    _stalled[owner] = Counter(kinds)
    for kind in Kind:
        INGEST_STALLED.labels(kind.value).set(sum(one[kind] for one in list(_stalled.values())))


def left(owner: object) -> None:
    """Forget the partitions of a worker that has left the group."""
    partitions(owner, owned=0, paused=0, stopped=0)
    stalled(owner, [])


def stall(kind: Kind) -> None:
    """Count a partition that was found stalled."""
    INGEST_STALLS.labels(kind.value).inc()


def waiting(found: Waiting) -> None:
    """Note what waits in the database's eyes, whoever lands it."""
    for (topic, number), seconds in found.behind.items():
        INGEST_FRESHNESS.labels(topic, str(number)).set(seconds)
    INBOX_EVENTS.set(found.inbox_events)
    INBOX_OLDEST.set(found.inbox_age)
    LANDING_CONNECTIONS.set(found.landing_connections)


def places(taken: Mapping[tuple[str, str], int]) -> None:
    """Note how many series have a place today, by metric and dimension set; after midnight none."""
    _with_places.update(taken)
    for key in _with_places:
        METRIC_SERIES.labels(*key).set(taken.get(key, 0))
