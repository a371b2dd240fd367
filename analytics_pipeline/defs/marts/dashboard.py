"""`dashboard_metrics`, the one mart that dbt doesn't fill: a materialized view, refreshed here.

Belongs here: its thin body. Does not belong here: the view (`sql/migrations`) and the refresh (`storage`).
"""

import dagster as dg

from analytics_pipeline.defs.conventions import MARTS, MARTS_POOL, OWNERS
from analytics_pipeline.defs.events.assets import EVENTS
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.specs import KEYS
from analytics_pipeline.storage.dashboard_view import refresh_dashboard


@dg.asset(
    description=(
        "The dashboard's numbers as one row, for SQL users: a materialized view over settled and pending rollups, as "
        "of its last_updated. `SELECT refresh_dashboard_metrics()` brings it to this second."
    ),
    deps=[EVENTS, KEYS["1m"]],
    group_name=MARTS,
    owners=OWNERS,
    kinds={"postgres"},
    metadata={"dagster/table_name": "public.dashboard_metrics"},
    pool=MARTS_POOL,
    retry_policy=dg.RetryPolicy(max_retries=1, delay=10),
)
def dashboard_metrics(pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Refresh it, beside readers."""
    with pipeline.connection("marts") as connection:
        row = refresh_dashboard(connection)
    return dg.MaterializeResult(
        metadata={**row._asdict(), "last_updated": dg.MetadataValue.timestamp(row.last_updated)}
    )
