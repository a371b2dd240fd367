"""What a materialization tells in the UI: numbers and a small table.

Belongs here: metadata from results. Does not belong here: anything that works on data.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import dagster as dg

from analytics_pipeline.defs.rollups.merging import Touched
from analytics_pipeline.rollups.compare import Difference
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


class RecomputeReport:
    """What recomputes of many hours found; of differences it keeps only those that are shown."""

    def __init__(self) -> None:
        self.hours: list[datetime] = []
        self._events = self._late = 0
        self._rows: Counter[str] = Counter()
        self._differences: Counter[str] = Counter()
        self._shown: dict[str, list[Record]] = {}

    def add(self, result: RecomputeResult) -> None:
        """Take one hour."""
        self.hours += [result.hour + timedelta(hours=number) for number in range(result.hours)]
        self._events += result.events
        self._late += result.late
        self._rows.update(result.rows)
        for difference in result.differences:
            self._differences[difference.interval] += 1
            shown = self._shown.setdefault(difference.interval, [])
            if len(shown) < _ROWS_SHOWN:
                shown.append(_record(difference))

    def metadata(self, *levels: str) -> Metadata:
        """What was read, computed, and different from what was served, at some levels."""
        shown = [record for level in levels for record in self._shown.get(level, [])]
        return {
            "rows": dg.MetadataValue.int(sum(self._rows[level] for level in levels)),
            "events": dg.MetadataValue.int(self._events),
            "late": dg.MetadataValue.int(self._late),
            "hours": dg.MetadataValue.int(len(self.hours)),
            "differences": dg.MetadataValue.int(sum(self._differences[level] for level in levels)),
            "different series": table(shown),
        }


def _record(difference: Difference) -> Record:
    return {
        "bucket": f"{difference.time_bucket:%Y-%m-%dT%H:%MZ}",
        "metric": difference.metric_name,
        "dimensions": difference.dimensions,
        "before": _shown(difference.value_before),
        "after": _shown(difference.value_after),
        "difference": float(difference.change),
    }


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:,.9g}"
