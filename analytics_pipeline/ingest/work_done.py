"""What this landing process has done since it began, for its own figures.

Belongs here: which series say so. Does not belong here: counting (`accounts`), writing (`storage.system_metrics`).
"""

from analytics_pipeline.storage.system_metrics import Work
from analytics_pipeline.telemetry import (
    BATCH_DURATION,
    EVENTS_DUPLICATE,
    EVENTS_FAILED,
    EVENTS_INGESTED,
    of_this_process,
)


def work_done() -> Work:
    """Messages, dead letters being the failed ones; batches are timed, from the first decoded row to COMMIT."""
    dead = of_this_process(EVENTS_FAILED, "_total")
    kept = of_this_process(EVENTS_INGESTED, "_total") + of_this_process(EVENTS_DUPLICATE, "_total")
    return Work(
        units=kept + dead,
        failed=dead,
        timed=of_this_process(BATCH_DURATION, "_count"),
        seconds=of_this_process(BATCH_DURATION, "_sum"),
    )
