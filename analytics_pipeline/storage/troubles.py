"""What is wrong with the pipeline now: everything that `problems` judges, read over one connection.

Belongs here: reading it together, for all who tell of it. Does not belong here: judging (`problems`), each question.
"""

from datetime import datetime
from typing import NamedTuple

from analytics_pipeline.rollups.catalog import Catalog
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.backfill_progress import unfinished
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.dagster_runs import read_orchestration
from analytics_pipeline.storage.pipeline import Pipeline, read_pipeline
from analytics_pipeline.storage.problems import Problem, problems


class Troubles(NamedTuple):
    """The numbers, and what is wrong with them, errors first."""

    pipeline: Pipeline
    problems: list[Problem]


def look(
    connection: Connection, settings: Settings, catalog: Catalog, now: datetime, *, is_cache_down: bool
) -> Troubles:
    """Look at landing, settling, Dagster and backfills.

    Args:
        connection: in autocommit.
        settings: for the topics, and for what waits how long.
        catalog: tells which metrics a backfill is about.
        now: UTC.
        is_cache_down: whether Redis is configured and away.

    Raises:
        psycopg.Error: Postgres.
    """
    kafka = settings.kafka
    found = read_pipeline(connection, now=now, graces=settings.analytics.aggregation.graces)
    every = problems(
        found,
        topics=kafka.topics if kafka.enabled else (),
        dagster=read_orchestration(connection, settings.dagster.schema_name, now=now),
        backfills=unfinished(connection, catalog),
        is_cache_down=is_cache_down,
    )
    return Troubles(found, every)
