"""What a shell completes: names of metrics, event types and services.

Belongs here: looking them up quickly and silently. Does not belong here: the shells' scripts (typer).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from analytics_pipeline.cli.workers import joined
from analytics_pipeline.errors import AnalyticsError

if TYPE_CHECKING:
    from analytics_pipeline.storage.connection import Connection

SERVICES = (
    "kafka",
    "postgres",
    "redis",
    "ingest",
    "api",
    "dagster-code",
    "dagster-webserver",
    "dagster-daemon",
    "simulator",
)
_MOST = 1_000
_PATIENCE = "1s"
_NOTHING: list[str] = []

Found = TypeVar("Found")


def services(incomplete: str) -> list[str]:
    """Of the stack of `analytics up`."""
    return [name for name in SERVICES if name.startswith(incomplete)]


def metric_names(incomplete: str) -> list[str]:
    """Of the catalog, those of custom events and counts of single types too, where the database can be asked."""
    from analytics_pipeline.rollups.catalog import BUILT_IN

    known = [one.name for one in BUILT_IN.metrics]
    types = {name for one in BUILT_IN.metrics for name in one.event_types}
    custom, seen = _ask(lambda connection: (_custom(connection), _types(connection)), (_NOTHING, _NOTHING))
    counted = sorted(f"events.count.{name}" for name in {*types, *seen})
    return [name for name in dict.fromkeys([*known, *custom, *counted]) if name.startswith(incomplete)]


def event_types(incomplete: str) -> list[str]:
    """Built-in ones, those that had events lately, and those that are defined."""
    from analytics_pipeline.rollups.catalog import BUILT_IN

    known = {name for one in BUILT_IN.metrics for name in one.event_types}
    return sorted(name for name in {*known, *_ask(_types, _NOTHING)} if name.startswith(incomplete))


def definition_names(incomplete: str) -> list[str]:
    """Event types that have a definition."""
    return [name for name in _ask(_defined, _NOTHING) if name.startswith(incomplete)]


def _ask(question: "Callable[[Connection], Found]", nothing: Found) -> Found:
    """What the database knows; nothing, at once and without a word, where it cannot be asked."""
    import psycopg
    from psycopg.conninfo import make_conninfo

    from analytics_pipeline.storage.connection import connection

    try:
        conninfo = make_conninfo(joined().database.conninfo(), connect_timeout=2)
        with connection(conninfo, name="completion", autocommit=True, statement_timeout=_PATIENCE) as opened:
            return question(opened)
    except (AnalyticsError, psycopg.Error):
        return nothing


def _types(opened: "Connection") -> list[str]:
    from analytics_pipeline.storage.overview import event_types

    return event_types(opened, most=_MOST)


def _custom(opened: "Connection") -> list[str]:
    from analytics_pipeline.storage.definitions import load_catalog

    return [one.name for one in load_catalog(opened, is_custom_enabled=True).automatic]


def _defined(opened: "Connection") -> list[str]:
    from analytics_pipeline.storage.definitions import list_definitions

    return [one.name for one in list_definitions(opened)]
