"""The five rollup assets as Dagster shows them: key, lineage, columns, version.

Belongs here: what they are. Does not belong here: how they are materialized (`assets`, `live`).
"""

import warnings

import dagster as dg

from analytics_pipeline.defs.conventions import OWNERS, ROLLUPS
from analytics_pipeline.defs.events.assets import EVENTS
from analytics_pipeline.defs.provenance import made_by
from analytics_pipeline.rollups.catalog import STATE_VERSION
from analytics_pipeline.rollups.schema import LEVELS

KEYS = {level: dg.AssetKey(f"metric_rollups_{level}") for level in LEVELS}

CODE_VERSION = f"states-{STATE_VERSION}"
"""Of the levels: how states are computed and combined. What a single metric is, is the version of its own asset."""

COLUMNS = (
    ("metric_name", "text", "Name of the metric; of `events.count`, that of an event type too."),
    ("interval", "varchar(10)", "Width of the bucket; each level is a partition of `metric_aggregations`."),
    ("time_bucket", "timestamptz", "Start of the bucket, UTC; half-open."),
    ("dimension_set", "text", "Names of the dimensions, '' for the total."),
    ("dimensions", "jsonb", "Their values."),
    ("count", "bigint", "How many events count."),
    ("sum", "double precision", "Sum of the values, derived from `sum_exact`."),
    ("sum_exact", "numeric", "Sum of the values, each rounded once to 1e-9."),
    ("avg", "double precision", "`sum_exact` ÷ `count`."),
    ("min", "double precision", "Smallest value."),
    ("max", "double precision", "Largest value."),
    ("p50", "double precision", "Median, within 0.5 %, of metrics with quantiles."),
    ("p95", "double precision", "95 % of the values are at most this."),
    ("p99", "double precision", "99 % of the values are at most this."),
    ("distinct_count", "bigint", "Distinct values: exact up to 1,024, ±3.1 % above."),
    ("first", "double precision", "Value of the first event, by time and id, of metrics that keep it."),
    ("last", "double precision", "Value of the last event, by time and id, of metrics that keep it."),
    ("metric_id", "text", "Hash of the declaration that the row was computed by."),
    ("created_at", "timestamptz", "When the row was written."),
    ("id", "uuid", "Of the row."),
)

_VALUES = ("event_type", "properties", "user_id", "session_id")
_FROM_EVENTS = {
    "time_bucket": ("timestamp",),
    "dimensions": ("event_type", "properties"),
    "count": ("id", "event_type"),
    "distinct_count": ("properties", "user_id", "session_id"),
    **dict.fromkeys(
        ("sum", "sum_exact", "avg", "min", "max", "p50", "p95", "p99", "first", "last"), _VALUES[:2]
    ),
}


def _upstream(hours: dg.AssetKey) -> dg.AssetDep:
    """The hours of each day, those alone that there are: today has not all of its own, and can be recomputed too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        mapping = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    return dg.AssetDep(hours, partition_mapping=mapping)


def level_spec(level: str, upstream: dg.AssetKey) -> dg.AssetSpec:
    """The asset of one level, computed from another."""
    return dg.AssetSpec(
        KEYS[level],
        deps=[_upstream(upstream) if level == "1d" else upstream],
        description=(
            f"All metrics of the catalog in buckets of {level}: settled rows (`metric_aggregations`), states "
            f"(`metric_states`) and the bucket register. Live runs add pending deltas; materializing a "
            f"partition here recomputes it from raw events."
        ),
        group_name=ROLLUPS,
        owners=OWNERS,
        kinds={"postgres", "duckdb"},
        code_version=CODE_VERSION,
        skippable=True,  # each partition is reported when it is done, and a preview materializes nothing
        metadata={
            "dagster/table_name": f"public.metric_aggregations_{level}",
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(name, kind, description) for name, kind, description in COLUMNS]
            ),
            "dagster/column_lineage": _lineage(upstream),
        },
    )


def level_tags(level: str) -> dict[str, str]:
    """What a reported materialization of a level says about its origin."""
    return made_by(CODE_VERSION, KEYS["1h"] if level == "1d" else EVENTS)


def _lineage(upstream: dg.AssetKey) -> dg.TableColumnLineage:
    names = {name: (name,) for name, *_ in COLUMNS if name not in {"id", "created_at", "interval"}}
    origins = _FROM_EVENTS if upstream == EVENTS else names
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(upstream, column) for column in columns]
            for name, columns in origins.items()
        }
    )
