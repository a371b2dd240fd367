"""Why a partition is stopped, in words that name the command which resolves it; pure.

Belongs here: the texts. Does not belong here: finding out (`ownership`), writing it down (`storage.standings`).
"""

from analytics_pipeline.events.dead_letter_limit import passed
from analytics_pipeline.ingest.consumer import Bounds, Partition
from analytics_pipeline.storage.standings import Stop, StopReason


def unreadable(key: Partition, next_offset: int, bounds: Bounds) -> Stop:
    """Why a partition cannot go on, and what resolves it."""
    if next_offset < bounds.low:
        reason, verb = StopReason.MESSAGES_DELETED, "skip-to"
        what = f"offsets {next_offset} to {bounds.low} were deleted before they were read"
    else:
        reason, verb = StopReason.TOPIC_RECREATED, "seek"
        what = f"the topic ends at {bounds.high}, before {next_offset}: it was recreated or truncated"
    text = f"{what}; look into it, then run `analytics offsets {verb} {key[0]} {key[1]} {bounds.low}`"
    return Stop(reason, text, bounds.low)


def made_anew(key: Partition, bounds: Bounds) -> Stop:
    """Why a partition cannot go on although its offset exists, and what resolves it."""
    text = (
        "the topic was deleted and recreated, so that its offsets stand for other messages; look into it, then "
        f"run `analytics offsets seek {key[0]} {key[1]} {bounds.low}` to read all that it holds now"
    )
    return Stop(StopReason.TOPIC_RECREATED, text, bounds.low)


def limit_passed(key: Partition, next_offset: int, why: str) -> Stop:
    """Why a partition does not go on although it could, and what resolves it."""
    return Stop(StopReason.DEAD_LETTERS, passed(key, next_offset, why), next_offset)
