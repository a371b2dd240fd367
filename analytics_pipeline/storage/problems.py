"""What is wrong with the pipeline, in a sentence each, with what to do about it; the worst first.

Belongs here: judging what was read. Does not belong here: reading it (`storage.pipeline`), what is too much
(`storage.tolerances`), the documented shapes (the API's `pipeline_schemas`).

Pure. Texts name topics, partitions, metrics and jobs, never what an event says.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from analytics_pipeline.storage.backfill_progress import Progress
from analytics_pipeline.storage.dagster_runs import Orchestration
from analytics_pipeline.storage.partition_states import State, behind, silence, state_of
from analytics_pipeline.storage.pipeline import Pipeline
from analytics_pipeline.storage.standings import Standing
from analytics_pipeline.storage.tolerances import (
    DAYS_AHEAD,
    DEAD_RATIO,
    INBOX_SECONDS,
    LATE_SECONDS,
    RETENTION_SECONDS,
    SILENT_SECONDS,
    VERY_LATE_SECONDS,
    VERY_SILENT_SECONDS,
)

_MOST_NAMED = 3


class Severity(StrEnum):
    """How soon a person has to look."""

    ERROR = "error"
    """Now: something is lost, wrong, or will be."""
    WARNING = "warning"
    """In the morning: something is late, or a producer is to blame."""


class Kind(StrEnum):
    """What a problem is about; none is ever renamed."""

    LEDGER_BROKEN = "ledger_broken"
    KAFKA_AWAY = "kafka_away"
    PARTITION_STOPPED = "partition_stopped"
    PARTITION_UNOWNED = "partition_unowned"
    PARTITION_BEHIND = "partition_behind"
    TOPIC_UNREAD = "topic_unread"
    INBOX_WAITS = "inbox_waits"
    MERGE_LATE = "merge_late"
    DEAD_LETTERS = "dead_letters"
    PARTITIONS_RUN_OUT = "partitions_run_out"
    RETENTION_OVERDUE = "retention_overdue"
    CHECK_FAILED = "check_failed"
    RUN_FAILED = "run_failed"
    DAGSTER_SILENT = "dagster_silent"
    BACKFILL_INTERRUPTED = "backfill_interrupted"
    CACHE_DOWN = "cache_down"


class Problem(NamedTuple):
    """`text` says what is wrong, `advice` what to do; `reason` tells problems of one name apart."""

    name: Kind
    severity: Severity
    text: str
    advice: str
    reason: str | None = None


def problems(
    found: Pipeline,
    *,
    topics: Sequence[str],
    dagster: Orchestration | None,
    backfills: Iterable[Progress],
    is_cache_down: bool,
) -> list[Problem]:
    """All of them, errors first; none: nothing has to be done.

    Args:
        found: landing and settling.
        topics: that ingest is told to read.
        dagster: what its tables tell; None: nothing.
        backfills: that have not ended.
        is_cache_down: whether Redis is configured and away.
    """
    every = [
        *_of_the_ledger(found),
        *_of_partitions(found, topics),
        *_of_waiting(found),
        *_of_dead_letters(found),
        *_of_room(found),
        *(_of_dagster(dagster, found.at) if dagster is not None else ()),
        *_of_backfills(backfills),
        *(_of_cache() if is_cache_down else ()),
    ]
    return sorted(every, key=lambda problem: problem.severity is not Severity.ERROR)


def worst(all_of_them: Iterable[Problem]) -> str:
    """`ok`, `warning` or `error`."""
    severities = {problem.severity for problem in all_of_them}
    return next((one.value for one in Severity if one in severities), "ok")


def _of_the_ledger(found: Pipeline) -> Iterator[Problem]:
    if found.gaps or found.unbalanced:
        parts = [_counted(found.gaps, "gap between batches", "gaps between batches")] if found.gaps else []
        if found.unbalanced:
            parts.append(
                _counted(found.unbalanced, "batch that does not add up", "batches that do not add up")
            )
        yield Problem(
            Kind.LEDGER_BROKEN,
            Severity.ERROR,
            f"The ledger of the last hour has {' and '.join(parts)}: messages were lost or doubled.",
            "Run `analytics ledger verify --since 24h`: it names the offsets and batches. Do not move offsets before.",
        )


def _of_partitions(found: Pipeline, topics: Sequence[str]) -> Iterator[Problem]:
    active = [one for one in found.partitions if not one.standing.is_retired]
    silent = [seconds for one in active if (seconds := silence(one.standing, found.at)) is not None]
    if silent:
        yield Problem(
            Kind.KAFKA_AWAY,
            Severity.ERROR,
            f"Kafka has not answered ingest for {_age(max(silent))}: of its topics nothing lands. What is posted does.",
            "Start Kafka, or look at its log and at the network; ingest goes on by itself. `analytics doctor` asks it.",
        )
    for one in active:
        if one.standing.stopped is not None:
            why, _, resolved_by = one.standing.stopped.partition("; ")
            yield Problem(
                Kind.PARTITION_STOPPED,
                Severity.ERROR,
                f"{_name(one.standing)} has stopped: {why}.",
                f"{resolved_by[:1].upper()}{resolved_by[1:]}.",
                one.standing.stop_reason,
            )
    unowned = [one.standing for one in active if state_of(one, found.at) is State.UNOWNED]
    if unowned:
        yield Problem(
            Kind.PARTITION_UNOWNED,
            Severity.ERROR,
            f"Nobody reads {_listed(unowned)}: the process that did is gone. Kafka keeps what arrives.",
            "Start ingest: `analytics start ingest`, or `docker compose up -d ingest`; its log says why it ended.",
        )
    late = [
        one.standing
        for one in active
        if state_of(one, found.at) in {State.LATE, State.VERY_LATE}
        and silence(one.standing, found.at) is None
    ]
    if late:
        most = max(behind(one, found.at) or 0.0 for one in late)
        yield Problem(
            Kind.PARTITION_BEHIND,
            Severity.ERROR if most > VERY_LATE_SECONDS else Severity.WARNING,
            f"{_listed(late)} {'is' if len(late) == 1 else 'are'} up to {_age(most)} behind Kafka.",
            "Read ingest's log for retries or a stopped partition; if it lands at full speed, add an ingest replica.",
        )
    unread = sorted(set(topics) - {one.standing.source for one in found.partitions})
    if unread:
        yield Problem(
            Kind.TOPIC_UNREAD,
            Severity.WARNING,
            f"Nothing of {', '.join(unread[:_MOST_NAMED])} was ever read.",
            "See with `analytics offsets show` whether the topic exists, and whether ingest runs.",
        )


def _of_waiting(found: Pipeline) -> Iterator[Problem]:
    if found.waiting.inbox_age > INBOX_SECONDS:
        yield Problem(
            Kind.INBOX_WAITS,
            Severity.ERROR,
            f"{_counted(found.waiting.inbox_events, 'posted event waits', 'posted events wait')} to be landed, "
            f"the oldest for {_age(found.waiting.inbox_age)}. They are durable.",
            "Start ingest, or read its log: it lands what was posted.",
        )
    if (found.oldest_pending or 0.0) > LATE_SECONDS:
        yield Problem(
            Kind.MERGE_LATE,
            Severity.WARNING,
            f"What has landed waits to be settled, some of it for {_age(found.oldest_pending or 0.0)}. Metrics are "
            "right, but their buckets do not become final.",
            "Look at Dagster's runs of merge_live, and whether its daemon runs: `analytics status`.",
        )


def _of_dead_letters(found: Pipeline) -> Iterator[Problem]:
    dead = found.dead.total()
    if found.read and dead > DEAD_RATIO * found.read:
        reason, count = found.dead.most_common(1)[0]
        yield Problem(
            Kind.DEAD_LETTERS,
            Severity.WARNING,
            f"{dead:,} of {found.read:,} messages of the last hour ({100 * dead / found.read:.1f} %) became dead "
            f"letters, {count:,} of them {reason}.",
            "Look at the groups of dead letters: each is one mistake of a producer. Replay it once that is mended.",
        )


def _of_room(found: Pipeline) -> Iterator[Problem]:
    if found.days_ahead < DAYS_AHEAD:
        yield Problem(
            Kind.PARTITIONS_RUN_OUT,
            Severity.ERROR,
            f"Events have a partition for {max(0.0, found.days_ahead):.1f} more days only; then landing waits.",
            "Run `analytics maintain`, and look at why Dagster's job maintenance does not.",
        )
    if found.overdue > RETENTION_SECONDS:
        yield Problem(
            Kind.RETENTION_OVERDUE,
            Severity.WARNING,
            f"Something should have been removed {_age(found.overdue)} ago and is still there.",
            "The retention plan names what is in the way; so does the metadata of expired_partitions in Dagster.",
        )


def _of_dagster(dagster: Orchestration, now: datetime) -> Iterator[Problem]:
    for check in dagster.checks:
        if not check.passed:
            yield Problem(
                Kind.CHECK_FAILED,
                Severity(check.severity),
                f"Dagster's check {check.name} of {check.asset} failed at {_clock(check.evaluated_at)}.",
                f"Its numbers stand at the asset {check.asset} in Dagster, under Checks.",
            )
    for job, run in dagster.last_of_jobs().items():
        if run.status == "FAILURE":
            yield Problem(
                Kind.RUN_FAILED,
                Severity.WARNING,
                f"The last run of {job} failed at {_clock(run.ended_at or run.created_at)}.",
                f"Dagster says why at the run {run.run_id[:8]}; what comes round by itself is tried again.",
            )
    silent = 0.0 if dagster.daemon_at is None else (now - dagster.daemon_at).total_seconds()
    if silent > SILENT_SECONDS:
        yield Problem(
            Kind.DAGSTER_SILENT,
            Severity.ERROR if silent > VERY_SILENT_SECONDS else Severity.WARNING,
            f"Dagster's daemon has said nothing for {_age(silent)}: no merges, no checks, no retention.",
            "Start it: `analytics start dagster-daemon`, or `docker compose up -d dagster-daemon`.",
        )


def _of_backfills(backfills: Iterable[Progress]) -> Iterator[Problem]:
    for one in backfills:
        if not one.is_running:
            what = (
                ", ".join(one.metrics) if one.metrics else "all metrics" if one.is_everything else "metrics"
            )
            yield Problem(
                Kind.BACKFILL_INTERRUPTED,
                Severity.WARNING,
                f"A backfill of {what} was interrupted after {_counted(one.hours, 'hour', 'hours')}.",
                "Give the same command again: it does the rest, and knows what is done.",
            )


def _of_cache() -> Iterator[Problem]:
    yield Problem(
        Kind.CACHE_DOWN,
        Severity.WARNING,
        "Redis is not reachable: answers are right, only slower.",
        "Start Redis; nothing else has to be done.",
    )


def _name(standing: Standing) -> str:
    return f"{standing.source}/{standing.partition}"


def _listed(standings: Sequence[Standing]) -> str:
    rest = len(standings) - _MOST_NAMED
    names = ", ".join(_name(one) for one in standings[:_MOST_NAMED])
    return f"{names} and {rest} more" if rest > 0 else names


def _counted(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _age(seconds: float) -> str:
    for width, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * width:
            return f"{seconds / width:.0f} {unit}"
    return f"{seconds:.0f} s"


def _clock(at: datetime) -> str:
    return f"{at:%H:%M} UTC"
