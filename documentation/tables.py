"""The page `docs/tables.md`: every table, column and view of a migrated database, with the comments that it keeps.

Belongs here: reading the catalog of Postgres. Does not belong here: the meanings; they are COMMENTs of the migrations,
and of marts the descriptions of their dbt models.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from analytics_pipeline.settings import project_file
from analytics_pipeline.storage.connection import Connection
from documentation.markdown import code, table

_HEAD = """\
# Tables

Made by `make docs` from a migrated database; `psql` shows the same with `\\d+`. Times are `timestamptz`, in UTC.
[Metrics](metrics.md) says how to read rollups by SQL, [marts](marts.md) has formulas. The product writes, people
and tools read.
"""
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Events": (
        "events",
        "dead_letter_events",
        "custom_event_definitions",
        "custom_event_definition_versions",
    ),
    "Rollups": (
        "metrics_live",
        "metric_aggregations",
        "metric_states",
        "metric_buckets",
        "metric_restatements",
        "metric_service",
        "metric_versions",
        "metric_series",
        "rollup_deltas",
        "pending_batches",
        "rollup_days",
        "metric_gaps",
        "metric_declarations",
        "backfill_plans",
        "backfill_progress",
    ),
    "Marts": (
        "order_analytics",
        "market_analytics",
        "strategy_performance",
        "user_behavior",
        "system_metrics",
        "dashboard_metrics",
        "mart_progress",
    ),
    "Landing": (
        "ingest_batches",
        "ingest_offsets",
        "http_inbox",
        "http_accepted",
        "http_duplicates",
        "http_idempotency",
        "source_statistics_live",
        "source_statistics",
        "source_statistics_deltas",
        "import_days",
    ),
    "Retention": (
        "retention_policies",
        "retention_removals",
        "retention_state",
        "frozen_days",
        "time_partitions",
        "event_index_state",
    ),
    "Access": ("api_keys", "api_sessions", "audit_log"),
}
"""What a reader looks for together; what is not named here stands in the last group."""
_LAST = "Everything else"
_COLUMNS = """
SELECT
    class.relname::text,
    class.relkind::text,
    coalesce(obj_description(class.oid, 'pg_class'), ''),
    attribute.attname::text,
    format_type(attribute.atttypid, attribute.atttypmod),
    attribute.attnotnull,
    coalesce(col_description(class.oid, attribute.attnum), '')
FROM pg_class AS class
INNER JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid
WHERE class.relnamespace = 'public'::regnamespace AND class.relkind IN ('r', 'p', 'v', 'm') AND NOT class.relispartition
    AND attribute.attnum > 0 AND NOT attribute.attisdropped
ORDER BY class.relname COLLATE "C", attribute.attnum
"""
_VIEWS = {"v": "view", "m": "materialized view"}
_SHORT = {
    "timestamp with time zone": "timestamptz",
    "character varying": "varchar",
    "double precision": "double",
}


def page(connection: Connection) -> str:
    """The whole page.

    Raises:
        LookupError: a table, or a column of a table, that no comment describes.
    """
    found: dict[str, list[tuple[Any, ...]]] = {}
    for name, *column in connection.execute(_COLUMNS):
        found.setdefault(name, []).append(tuple(column))
    described = _of_models()
    grouped = {name for names in _GROUPS.values() for name in names}
    groups = {**_GROUPS, _LAST: tuple(name for name in found if name not in grouped)}
    lines = [_HEAD]
    for group, names in groups.items():
        lines += [f"## {group}", ""]
        for name in names:
            lines += [*_table(name, found[name], described.get(name, {})), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(name: str, columns: list[tuple[Any, ...]], described: Mapping[str, str]) -> Iterator[str]:
    kind, meaning = columns[0][:2]
    if not meaning:
        raise LookupError(f"{name}: say what it is, by COMMENT ON in a migration")
    yield f"### {name}"
    yield ""
    yield f"{f'A {_VIEWS[kind]}. ' if kind in _VIEWS else ''}{meaning}"
    yield ""
    if kind in _VIEWS:
        yield "Columns: " + ", ".join(code(column[2]) for column in columns) + "."
        return
    rows = []
    for _, _, column, type_, is_required, comment in columns:
        text = described.get(column) or comment
        if not text:
            raise LookupError(f"{name}.{column}: say what it means, by COMMENT ON in a migration")
        rows.append((code(column), _type(type_) + ("" if is_required else ", null"), text.rstrip(".")))
    yield from table(("column", "type", "meaning"), rows)


def _type(text: str) -> str:
    for long, short in _SHORT.items():
        text = text.replace(long, short)
    return text


def _of_models() -> dict[str, dict[str, str]]:
    """Descriptions of the columns of marts, as dbt has them."""
    found = {}
    for path in sorted(project_file("dbt_models/models/marts").glob("*.yml")):
        for model in yaml.safe_load(path.read_text(encoding="utf-8"))["models"]:
            found[model["name"]] = {one["name"]: one["description"] for one in model["columns"]}
    return found
