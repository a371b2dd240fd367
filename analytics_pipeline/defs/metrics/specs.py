"""Each metric of the catalog as an asset, whose version is what its numbers follow from.

Belongs here: what such an asset is, and what its materialization tells. Does not belong here: what a metric is
(`rollups.catalog`), when it is materialized (`assets`, `automation`).
"""

from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from analytics_pipeline.defs.conventions import METRICS, OWNERS
from analytics_pipeline.defs.events.assets import EVENTS
from analytics_pipeline.defs.plots import bars
from analytics_pipeline.defs.provenance import made_by
from analytics_pipeline.rollups.catalog import Metric
from analytics_pipeline.storage.metric_versions import InService

HOURS_SHOWN = 48


def key_of(name: str) -> dg.AssetKey:
    """Key of the asset of a metric."""
    return dg.AssetKey(["metrics", name])


def metric_spec(metric: Metric) -> dg.AssetSpec:
    """The asset of one metric; materialized while it answers for all that raw events there are."""
    return dg.AssetSpec(
        key_of(metric.name),
        deps=[EVENTS],
        description=(
            f"{metric.description} Materialized when this declaration answers for everything that there are raw "
            "events of; materialize it to backfill that."
        ),
        group_name=METRICS,
        owners=OWNERS,
        kinds={"postgres", "duckdb"},
        code_version=metric.metric_id,
        skippable=True,  # a preview, or a part of the range
        tags={"unit": metric.unit},
        metadata={
            "unit": metric.unit,
            "aggregations": ", ".join(metric.aggregations),
            "events": ", ".join(metric.event_types) or "all",
            "group by": "; ".join(", ".join(each) for each in metric.dimension_sets if each) or "–",
            "state": metric.kind.value,
            **({"value": metric.value} if metric.value else {}),
        },
    )


def is_whole(found: InService, begin: datetime) -> bool:
    """Whether it answers for everything since `begin`."""
    return found.available_from <= begin


def whole(
    found: InService, begin: datetime, metric: Metric, hours: Sequence[tuple[datetime, float | None]]
) -> dg.AssetMaterialization:
    """The declaration answers for all of raw."""
    return dg.AssetMaterialization(
        key_of(found.name),
        description=(
            f"Answers for everything since {begin:%Y-%m-%dT%H:%MZ}, from when on raw events are kept (retention), "
            "whenever the first of them was."
        ),
        metadata=_told(found, metric, hours),
        tags=made_by(found.metric_id, EVENTS),
    )


def partial(found: InService, begin: datetime) -> dg.AssetObservation:
    """The declaration is in force, but what was before is answered by another, or not at all."""
    return dg.AssetObservation(
        key_of(found.name),
        description=(
            f"In force, and answers from {found.available_from:%Y-%m-%dT%H:%MZ} on. Raw events are kept since "
            f"{begin:%Y-%m-%dT%H:%MZ} (retention): materialize it to backfill those that there are."
        ),
        metadata=_numbers(found),
    )


def _told(
    found: InService, metric: Metric, hours: Sequence[tuple[datetime, float | None]]
) -> dict[str, dg.MetadataValue]:
    values = [value for _, value in hours]
    if all(value is None for value in values):
        return _numbers(found)
    caption = f"{metric.default_aggregation} per hour, {metric.unit}, last {len(values)} hours"
    latest = next(value for value in reversed(values) if value is not None)
    return {
        **_numbers(found),
        "latest hour": dg.MetadataValue.float(float(latest)),
        "last hours": bars(values, caption),
    }


def _numbers(found: InService) -> dict[str, dg.MetadataValue]:
    return {
        "metric_id": dg.MetadataValue.text(found.metric_id),
        "version": dg.MetadataValue.int(found.version),
        "incomplete hours": dg.MetadataValue.int(found.incomplete_hours),
    }
