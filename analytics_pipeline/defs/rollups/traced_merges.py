"""Live merges with a span for each, linked to the landings whose deltas it settled.

Belongs here: what a merge span says. Does not belong here: OpenTelemetry (`tracing`), merging (`storage.rollups`).
"""

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from analytics_pipeline import tracing
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.rollups import MergeResult

Merge = tuple[MergeResult, float]


def traced(merges: Iterable[Merge], settings: Settings, *, run_id: str) -> Iterable[Merge]:
    """The same merges, each told once it is done; as they are when `tracing.enabled` is false."""
    return _each(merges, settings, run_id) if settings.tracing.enabled else merges


def _each(merges: Iterable[Merge], settings: Settings, run_id: str) -> Iterator[Merge]:
    traces, namespace = tracing.start(settings.tracing, "dagster"), settings.kafka.group_id
    try:
        for merge, seconds in merges:
            end = time.time_ns()
            traces.record(
                "merge hour",
                "internal",
                {
                    "analytics.hour": merge.hour.isoformat(),
                    "analytics.batches": merge.batches,
                    "analytics.deltas": merge.deltas,
                    "analytics.events": merge.events,
                    "dagster.run_id": run_id,
                },
                start=end - int(seconds * 1e9),
                end=end,
                links=[
                    tracing.link_to_batch(namespace, batch_id)
                    for batch_id in islice(reversed(merge.batch_ids), tracing.MOST_LINKS)
                ],
            )
            yield merge, seconds
    finally:
        traces.close()
