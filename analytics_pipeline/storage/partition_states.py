"""How one partition of Kafka stands, in a word.

Belongs here: judging one. Does not belong here: what a person has to do about all of them (`problems`).
"""

from datetime import datetime
from enum import StrEnum

from analytics_pipeline.storage.pipeline import Partition
from analytics_pipeline.storage.standings import Standing
from analytics_pipeline.storage.tolerances import (
    KAFKA_SECONDS,
    LATE_SECONDS,
    UNOWNED_SECONDS,
    VERY_LATE_SECONDS,
)


class State(StrEnum):
    """How a partition stands."""

    RETIRED = "retired"
    """No longer read."""
    STOPPED = "stopped"
    """Until a person has decided: ingest reads no further rather than lose or invent data."""
    UNOWNED = "unowned"
    """The process that claimed it last is gone."""
    UNKNOWN = "unknown"
    """Nobody has noted yet when everything had landed."""
    VERY_LATE = "very_late"
    LATE = "late"
    FRESH = "fresh"


def state_of(partition: Partition, now: datetime) -> State:
    """The worst that can be said of a partition."""
    standing = partition.standing
    seconds = behind(standing, now)
    if standing.is_retired:
        return State.RETIRED
    if standing.stopped is not None:
        return State.STOPPED
    if not standing.is_owner_connected and (now - standing.updated_at).total_seconds() > UNOWNED_SECONDS:
        return State.UNOWNED
    if seconds is None:
        return State.UNKNOWN
    if seconds > LATE_SECONDS:
        return State.VERY_LATE if seconds > VERY_LATE_SECONDS else State.LATE
    return State.FRESH


def behind(standing: Standing, now: datetime) -> float | None:
    """Seconds since everything that Kafka held had landed."""
    return None if standing.caught_up_at is None else (now - standing.caught_up_at).total_seconds()


def silence(standing: Standing, now: datetime) -> float | None:
    """Seconds since Kafka answered the process that owns a partition; None: it does, or that process is gone."""
    if standing.kafka_silent_since is None or not standing.is_owner_connected:
        return None
    seconds = (now - standing.kafka_silent_since).total_seconds()
    return seconds if seconds > KAFKA_SECONDS else None
