"""`events`, an external asset: the ingest processes write it, live merges observe it, checks judge it."""

import dagster as dg

from analytics_pipeline.defs.conventions import INGESTION, OWNERS

EVENTS = dg.AssetKey("events")

COLUMNS = (
    ("id", "uuid", "Its identity, together with `timestamp`."),
    ("event_type", "varchar(255)", "What happened, such as order.filled."),
    ("user_id", "varchar(255)", "Who caused it."),
    ("session_id", "varchar(255)", "In which session."),
    ("properties", "jsonb", "Everything else that the producer says."),
    ("timestamp", "timestamptz", "When it happened."),
    ("created_at", "timestamptz", "When it landed."),
    ("source", "text", "The Kafka topic, http, _replay or _import."),
    ("source_partition", "integer", "Of the topic."),
    ("source_offset", "bigint", "In the partition, or the place in the inbox."),
    ("is_late", "boolean", "Whether its minute was over, grace included, when it reached its source."),
    ("definition_version", "integer", "Of the custom definition that judged it."),
)

events = dg.AssetSpec(
    EVENTS,
    description=(
        "Raw events, landed exactly once by `analytics ingest` from Kafka and from REST; one partition of "
        "Postgres a UTC day. Everything else is derived from them."
    ),
    group_name=INGESTION,
    owners=OWNERS,
    kinds={"postgres", "kafka"},
    metadata={
        "dagster/table_name": "public.events",
        "dagster/column_schema": dg.TableSchema(
            [dg.TableColumn(name, kind, description) for name, kind, description in COLUMNS]
        ),
    },
)
