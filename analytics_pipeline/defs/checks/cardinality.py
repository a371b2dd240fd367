"""The check that tells when a metric had more series than its budget.

Belongs here: judging. Does not belong here: counting (`storage.series`), the budget (`rollups.catalog`).
"""

from datetime import timedelta

import dagster as dg

from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.reports import Record, table
from analytics_pipeline.defs.rollups.specs import KEYS
from analytics_pipeline.storage import series

_DAYS_BEFORE = 1
"""Yesterday and today: so long does a flood show."""


@dg.asset_check(
    asset=KEYS["1d"],
    name="cardinality",
    description=(
        "Series of each metric yesterday and today against its budget. What had no place was counted under __other__: "
        "nothing is lost, but a dimension holds what should not be one, or the budget is too small."
    ),
)
def cardinality(pipeline: Pipeline) -> dg.AssetCheckResult:
    """Nothing was counted under `__other__`."""
    midnight = pipeline.now().replace(hour=0, minute=0, second=0, microsecond=0)
    with pipeline.connection("checks") as connection:
        metrics = pipeline.catalog(connection).by_id
        found = series.usage(connection, metrics, midnight - timedelta(days=_DAYS_BEFORE))
    records: list[Record] = [
        {
            "metric": metrics[used.metric_id].name,
            "group by": used.dimension_set,
            "day": used.day.isoformat(),
            "series": used.series,
            "budget": metrics[used.metric_id].series_limit,
            "events": used.events,
            "under __other__": used.others,
            "share of __other__": used.others / used.events if used.events else 0.0,
        }
        for used in sorted(found, key=lambda used: (-used.others, -used.series, used))
    ]
    fullest = max((used.series / metrics[used.metric_id].series_limit for used in found), default=0.0)
    return dg.AssetCheckResult(
        passed=not any(used.others for used in found),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "most series, of its budget": fullest,
            "largest share of __other__": max(
                (float(record["share of __other__"]) for record in records), default=0.0
            ),
            "budgets exceeded": len({used[:2] for used in found if used.others}),
            "series": table(records),
        },
    )
