"""All settings, read once: `config.yaml`, then environment variables, which win.

Belongs here: every key, its type, its default, its limits, and the checks between keys.
Does not belong here: what a setting does. No other package reads the environment.

Sources, strongest first:
1. `B25_<SECTION>__<KEY>`, e.g. `B25_KAFKA__GROUP_ID`, `B25_ANALYTICS__INGESTION__BATCH_SIZE`;
2. the original service's names (`SERVER_PORT`, `DB_HOST`, … : see `ORIGINAL_VARIABLES`);
3. the file named by `B25_CONFIG`, else `config.yaml` in the working directory, if it is there, the original's names
   of keys included (`original_names`);
4. the defaults of the sections.
"""

from analytics_pipeline.settings.local import LocalStack, Simulator
from analytics_pipeline.settings.pipeline import (
    Aggregation,
    Analytics,
    CustomEvents,
    Dagster,
    Ingestion,
    Query,
    Retention,
)
from analytics_pipeline.settings.reading import (
    ORIGINAL_VARIABLES,
    PREFIX,
    SHARED_FOLDER,
    adopt,
    config_file,
    environment,
    load_settings,
    project_file,
    settings,
    state_folder,
    used_file,
)
from analytics_pipeline.settings.security import LOOPBACK, Cors, RateLimit, Security
from analytics_pipeline.settings.servers import WAITS, Database, Kafka, Redis, Topic
from analytics_pipeline.settings.serving import Health, Logging, Metrics, Realtime, Server, Tracing
from analytics_pipeline.settings.values import Section, parse_duration, write_duration
from analytics_pipeline.settings.whole import Settings

__all__ = [
    "LOOPBACK",
    "ORIGINAL_VARIABLES",
    "PREFIX",
    "SHARED_FOLDER",
    "WAITS",
    "Aggregation",
    "Analytics",
    "Cors",
    "CustomEvents",
    "Dagster",
    "Database",
    "Health",
    "Ingestion",
    "Kafka",
    "LocalStack",
    "Logging",
    "Metrics",
    "Query",
    "RateLimit",
    "Realtime",
    "Redis",
    "Retention",
    "Section",
    "Security",
    "Server",
    "Settings",
    "Simulator",
    "Topic",
    "Tracing",
    "adopt",
    "config_file",
    "environment",
    "load_settings",
    "parse_duration",
    "project_file",
    "settings",
    "state_folder",
    "used_file",
    "write_duration",
]
