"""What a materialization tells in the UI: numbers and a small table.

Belongs here: metadata from results. Does not belong here: anything that works on data.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import dagster as dg

from analytics_pipeline.defs.plots import bars
from analytics_pipeline.defs.rollups.merging import Touched
from analytics_pipeline.rollups.catalog import Metric
from analytics_pipeline.rollups.compare import Difference
from analytics_pipeline.storage.books import Freshness
from analytics_pipeline.storage.recompute import RecomputeResult
from analytics_pipeline.storage.rollups import MergeResult

_ROWS_SHOWN = 50

PREVIEWED = "What this would change; nothing was written. To apply it, launch the same without dry_run."

_DIFFERENCES = dg.TableSchema(
    [
        dg.TableColumn("level", "string", "Width of the bucket."),
        dg.TableColumn("bucket", "string", "Its start, UTC."),
        dg.TableColumn("metric", "string"),
        dg.TableColumn("dimensions", "string", "Of the series; {} is the total."),
        dg.TableColumn("before", "string", "What is served, in the metric's default aggregation."),
        dg.TableColumn("after", "string", "What raw events give."),
        dg.TableColumn("difference", "float", "What is added to it."),
    ]
)

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


def describe_merge(touched: Touched, row_count: int) -> Metadata:
    """Metadata of one partition that live merges changed: how many rows it has now, and what was written to it."""
    return {
        "dagster/row_count": dg.MetadataValue.int(row_count),
        "rows": dg.MetadataValue.int(touched.rows),
        "buckets": dg.MetadataValue.int(touched.buckets),
        "events": dg.MetadataValue.int(touched.events),
        "late": dg.MetadataValue.int(touched.late),
        "deltas": dg.MetadataValue.int(touched.deltas),
        "seconds": dg.MetadataValue.float(round(touched.seconds, 3)),
        "hours": table([{"hour": f"{hour:%Y-%m-%dT%H:00Z}"} for hour in touched.hours]),
    }


def describe_recompute(level: str, result: RecomputeResult) -> Metadata:
    """Metadata of one hour, or one day, that was recomputed; at 1d of a single hour, that hour's.

    With the last hour of a day that a run does, what is different at 1d.
    """
    found = [difference for difference in result.differences if difference.interval == level]
    if level not in result.rows:
        return {
            "hour": dg.MetadataValue.text(f"{result.hour:%Y-%m-%dT%H:00Z}"),
            "events": dg.MetadataValue.int(result.events),
            "late": dg.MetadataValue.int(result.late),
            "seconds": dg.MetadataValue.float(round(result.seconds, 3)),
        }
    return {
        "dagster/row_count": dg.MetadataValue.int(result.rows[level]),
        "rows": dg.MetadataValue.int(result.rows[level]),
        "buckets": dg.MetadataValue.int(result.buckets[level]),
        "events": dg.MetadataValue.int(result.events),
        "late": dg.MetadataValue.int(result.late),
        "differences": dg.MetadataValue.int(len(found)),
        "seconds": dg.MetadataValue.float(round(result.seconds, 3)),
        "different series": differences_table([_record(each) for each in found[:_ROWS_SHOWN]]),
    }


def describe_landed(merges: Sequence[MergeResult], behind: Freshness) -> Metadata:
    """What live merges saw of the events that landed since the ones before, for `events`, which nobody materializes."""
    return {
        "events": dg.MetadataValue.int(sum(merge.events for merge in merges)),
        "late": dg.MetadataValue.int(sum(merge.late for merge in merges)),
        "deltas": dg.MetadataValue.int(sum(merge.deltas for merge in merges)),
        "hours": dg.MetadataValue.int(len({merge.hour for merge in merges})),
        "behind (seconds)": dg.MetadataValue.float(round(behind.oldest, 3)),
    }


class Preview:
    """What comparing many hours found; of differences it keeps only those that are shown."""

    def __init__(self) -> None:
        self.hours: list[datetime] = []
        self._events = self._late = 0
        self._seconds = 0.0
        self._rows: Counter[str] = Counter()
        self._buckets: Counter[str] = Counter()
        self._differences: Counter[tuple[str, str]] = Counter()
        self._per_hour: list[float | None] = []
        self._shown: dict[str, list[Record]] = {}

    def add(self, result: RecomputeResult) -> None:
        """Take one hour."""
        self.hours += [result.hour + timedelta(hours=number) for number in range(result.hours)]
        self._events += result.events
        self._late += result.late
        self._seconds += result.seconds
        self._rows.update(result.rows)
        self._buckets.update(result.buckets)
        if result.hours:
            self._per_hour.append(float(len(result.differences)))
        for difference in result.differences:
            self._differences[difference.interval, difference.metric_name] += 1
            shown = self._shown.setdefault(difference.interval, [])
            if len(shown) < _ROWS_SHOWN:
                shown.append(_record(difference))

    def metadata(self, *levels: str, metric: Metric | None = None) -> Metadata:
        """What was read, computed, and different from what was served, at some levels, of one metric or of all."""
        shown = [
            record
            for level in levels
            for record in self._shown.get(level, [])
            if metric is None or is_of(metric, str(record["metric"]))
        ]
        differences = sum(
            count
            for (level, name), count in self._differences.items()
            if level in levels and (metric is None or is_of(metric, name))
        )
        return {
            "rows": dg.MetadataValue.int(sum(self._rows[level] for level in levels)),
            "buckets": dg.MetadataValue.int(sum(self._buckets[level] for level in levels)),
            "events": dg.MetadataValue.int(self._events),
            "late": dg.MetadataValue.int(self._late),
            "hours": dg.MetadataValue.int(len(self.hours)),
            "seconds": dg.MetadataValue.float(round(self._seconds, 3)),
            "differences": dg.MetadataValue.int(differences),
            "different series": differences_table(shown),
            **(
                {"differences per hour": bars(self._per_hour, "differences per hour, all levels")}
                if differences
                else {}
            ),
        }


def is_of(metric: Metric, metric_name: str) -> bool:
    """Whether rows of this name are of this metric."""
    return metric_name == metric.name or (
        metric.name_by_dimension and metric_name.startswith(f"{metric.name}.")
    )


def differences_table(records: Sequence[Record]) -> dg.MetadataValue:
    """Differences as a table, which has its columns without any row too."""
    shown = [dg.TableRecord(record) for record in records[:_ROWS_SHOWN]]
    return dg.MetadataValue.table(shown, schema=_DIFFERENCES)


def _record(difference: Difference) -> Record:
    return {
        "level": difference.interval,
        "bucket": f"{difference.time_bucket:%Y-%m-%dT%H:%MZ}",
        "metric": difference.metric_name,
        "dimensions": difference.dimensions,
        "before": _shown(difference.value_before),
        "after": _shown(difference.value_after),
        "difference": float(difference.change),
    }


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:,.9g}"
