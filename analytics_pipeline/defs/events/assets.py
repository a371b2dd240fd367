"""`events`, an external asset: the ingest processes write it, Dagster only observes and checks it."""

import dagster as dg

from analytics_pipeline.defs.conventions import INGESTION, OWNERS

EVENTS = dg.AssetKey("events")

events = dg.AssetSpec(
    EVENTS,
    description=(
        "Raw events, landed exactly once by `analytics ingest` from Kafka and from REST; one partition of "
        "Postgres a UTC day. Everything else is derived from them."
    ),
    group_name=INGESTION,
    owners=OWNERS,
    kinds={"postgres", "kafka"},
    metadata={"dagster/table_name": "public.events"},
)
