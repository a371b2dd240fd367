"""What a materialization tells in the UI: numbers and a small table.

Belongs here: metadata from results. Does not belong here: anything that works on data.
"""

from collections.abc import Sequence

import dagster as dg

from analytics_pipeline.defs.rollups.merging import Touched
from analytics_pipeline.storage.recompute import RecomputeResult

_ROWS_SHOWN = 50

Metadata = dict[str, dg.MetadataValue]
Record = dict[str, str | int | float]


def table(records: Sequence[Record]) -> dg.MetadataValue:
    """The first rows as a table; the columns are those of the first record."""
    shown = [dg.TableRecord(record) for record in records[:_ROWS_SHOWN]]
    types = {int: "int", float: "float"}
    columns = [
        dg.TableColumn(name, types.get(type(value), "string"))
        for name, value in (records[0] if records else {}).items()
    ]
    return dg.MetadataValue.table(shown, schema=dg.TableSchema(columns))


def describe_merge(touched: Touched) -> Metadata:
    """Metadata of one partition that live merges changed."""
    return {
        "dagster/row_count": dg.MetadataValue.int(touched.rows),
        "rows": dg.MetadataValue.int(touched.rows),
        "buckets": dg.MetadataValue.int(touched.buckets),
        "events": dg.MetadataValue.int(touched.events),
        "late": dg.MetadataValue.int(touched.late),
        "deltas": dg.MetadataValue.int(touched.deltas),
        "seconds": dg.MetadataValue.float(round(touched.seconds, 3)),
        "hours": table([{"hour": f"{hour:%Y-%m-%dT%H:00Z}"} for hour in touched.hours]),
    }


def describe_recompute(done: Sequence[RecomputeResult], level: str) -> Metadata:
    """Metadata of a recompute, of one level: what was read and written, and what differed from what was served."""
    found: list[Record] = [
        {
            "bucket": f"{difference.time_bucket:%Y-%m-%dT%H:%MZ}",
            "interval": difference.interval,
            "metric": difference.metric_name,
            "dimensions": difference.dimensions,
            "before": _shown(difference.value_before),
            "after": _shown(difference.value_after),
            "difference": difference.change,
        }
        for result in done
        for difference in result.differences
        if difference.interval == level
    ]
    return {
        "rows": dg.MetadataValue.int(sum(result.rows.get(level, 0) for result in done)),
        "events": dg.MetadataValue.int(sum(result.events for result in done)),
        "late": dg.MetadataValue.int(sum(result.late for result in done)),
        "hours": dg.MetadataValue.int(len(done)),
        "differences": dg.MetadataValue.int(len(found)),
        "different series": table(found),
    }


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:,.9g}"
