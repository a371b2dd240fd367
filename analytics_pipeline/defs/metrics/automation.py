"""What Postgres says of metrics, told to Dagster: a sensor, because ingest registers and the command line backfills.

Belongs here: noticing changes. Does not belong here: what is told of them (`specs`).
"""

import json
from datetime import UTC, datetime

import dagster as dg

from analytics_pipeline.defs.conventions import OWNERS
from analytics_pipeline.defs.metrics import specs
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.storage.backfill import raw_begin
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.metric_versions import InService, in_service
from analytics_pipeline.storage.settled_series import last_hours


@dg.sensor(
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    owners=OWNERS,
    description=(
        "Materializes the asset of a metric when its declaration answers for all raw events (declared before the first "
        "of them, or backfilled, from wherever), and observes it when an edited one is in force, or answers from "
        "another time on. Asks for no run."
    ),
)
def metrics_in_service(
    context: dg.SensorEvaluationContext, pipeline: Pipeline
) -> dg.SensorResult | dg.SkipReason:
    """Each version is told when it is in force, when a backfill of a part lets it answer from earlier on, and when it
    is whole; the cursor says what was told.
    """
    seen = json.loads(context.cursor or "{}")
    with pipeline.connection("sensor") as connection:
        begin = raw_begin(connection)
        found = [each for each in in_service(connection) if each.name in BUILT_IN.by_name]
        now = {each.name: _told_of(each, begin) for each in found}
        news = [each for each in found if seen.get(each.name) != now[each.name]]
        events = [event_of(connection, pipeline, each) for each in news]
    if not events:
        return dg.SkipReason("every metric is as it was")
    return dg.SensorResult(asset_events=events, cursor=json.dumps(now))


def _told_of(found: InService, begin: datetime) -> list[int | str]:
    """What is told anew when it changes; since when a whole one answers is none of it, for raw events go day by day."""
    return [
        found.version,
        "whole" if specs.is_whole(found, begin) else found.available_from.astimezone(UTC).isoformat(),
    ]


def event_of(
    connection: Connection, pipeline: Pipeline, found: InService
) -> dg.AssetMaterialization | dg.AssetObservation:
    """What is to be told of a version: that it is whole, or that it is not."""
    begin = raw_begin(connection)
    if not specs.is_whole(found, begin):
        return specs.partial(found, begin)
    metric = BUILT_IN.by_name[found.name]
    hours = last_hours(connection, metric, now=pipeline.now(), count=specs.HOURS_SHOWN)
    return specs.whole(found, begin, metric, hours)
