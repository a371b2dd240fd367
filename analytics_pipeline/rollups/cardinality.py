"""The cardinality budget: series that have no place in their UTC day are counted together, as `__other__`.

Belongs here: which series a table of deltas has, and putting together those that have no place.
Does not belong here: who gets a place, and who remembers it (`storage.series`); the budget itself (`catalog`).

A verdict is about one series and one UTC day, for good. So the same events give the same series however they are
batched, landed or recomputed.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups import levels
from analytics_pipeline.rollups.catalog import SKIPPED, Metric
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA

OTHER = "__other__"
"""The value of every dimension of what has no place."""

_DAY = 86_400_000_000
_EPOCH = date(1970, 1, 1)
_COLUMNS = ("metric_id", "dimension_set", "dimensions")


_WITHOUT_DIMENSIONS = frozenset({"", SKIPPED})


class Place(NamedTuple):
    """What a series needs to be shown by its own name; `dimensions` as in `DELTAS_SCHEMA`."""

    day: date
    metric_id: str
    dimension_set: str
    dimensions: str

    @property
    def budget(self) -> tuple[str, str]:
        """Whose places it is one of: of this metric and dimension set, in its day."""
        return self.metric_id, self.dimension_set


class Places(NamedTuple):
    """The places that a table of deltas needs: of totals none, and of `__other__` itself.

    Attributes:
        wanted: each place once; None for what needs none.
        of_row: for every row the position in `wanted`.
        counts: for every position, how many events its rows count.
    """

    wanted: list[Place | None]
    of_row: npt.NDArray[np.intp]
    counts: list[int]

    def rows_of(self, places: Collection[Place]) -> npt.NDArray[np.bool_]:
        """Which rows need one of these."""
        return np.array([place in places for place in self.wanted], bool)[self.of_row]


@lru_cache(maxsize=1024)
def other_of(dimension_set: str) -> str:
    """The `dimensions` of `__other__` in a dimension set."""
    return json.dumps(dict.fromkeys(dimension_set.split(","), OTHER), separators=(",", ":"))


def places_of(deltas: pa.Table, metrics: Mapping[str, Metric]) -> Places:
    """The places that the series of these metrics, by id, need; rows of other metrics need none.

    Args:
        deltas: `DELTAS_SCHEMA`, in any order.
        metrics: those that matter.
    """
    days = deltas.column("hour").cast(pa.int64()).to_numpy() // _DAY
    code = days
    for name in _COLUMNS:
        column = deltas.column(name).combine_chunks().dictionary_encode()
        code = code * len(column.dictionary) + column.indices.to_numpy()
    _, first, of_row = np.unique(code, return_index=True, return_inverse=True)
    names = deltas.select(_COLUMNS).take(pa.array(first))
    found = zip(days[first].tolist(), *(names.column(name).to_pylist() for name in _COLUMNS), strict=True)
    wanted = [
        Place(_EPOCH + timedelta(days=day), metric_id, dimension_set, dimensions)
        if metric_id in metrics
        and dimension_set not in _WITHOUT_DIMENSIONS
        and dimensions != other_of(dimension_set)
        else None
        for day, metric_id, dimension_set, dimensions in found
    ]
    counts = np.bincount(of_row, weights=deltas.column("count").to_numpy(), minlength=len(wanted))
    return Places(wanted, of_row, counts.astype(np.int64).tolist())


def put_together(deltas: pa.Table, refused: npt.NDArray[np.bool_], metrics: Mapping[str, Metric]) -> pa.Table:
    """Count refused rows under `__other__`.

    Args:
        deltas: `DELTAS_SCHEMA`.
        refused: which rows have no place.
        metrics: of these rows, by id.

    Returns:
        `DELTAS_SCHEMA`: the other rows as they were, and one row per minute, metric and dimension set for the refused.
    """
    moved = deltas.filter(pa.array(refused))
    ids, sets = moved.column("metric_id").to_pylist(), moved.column("dimension_set").to_pylist()
    names = [
        f"{metrics[metric_id].name}.{OTHER}" if metrics[metric_id].name_by_dimension else metrics[metric_id].name
        for metric_id in ids
    ]  # fmt: skip
    renamed = moved.drop_columns(["metric_name", "dimensions"])
    renamed = renamed.append_column("metric_name", pa.array(names, pa.string()))
    renamed = renamed.append_column("dimensions", pa.array(map(other_of, sets), pa.string()))
    rows = levels.roll_up(renamed, "1m").rename_columns({"time_bucket": "minute"})
    rows = rows.append_column("hour", levels.bucket_starts(rows.column("minute"), "1h"))
    kept = deltas.filter(pa.array(~refused))
    return pa.concat_tables([kept, rows.select(DELTAS_SCHEMA.names).cast(DELTAS_SCHEMA)])


def others_in(deltas: pa.Table, metrics: Mapping[str, Metric]) -> Counter[tuple[str, str]]:
    """How much is counted under `__other__`, by name of the metric and dimension set."""
    found: Counter[tuple[str, str]] = Counter()
    suspects = deltas.filter(pc.match_substring(deltas.column("dimensions"), OTHER))
    for row in suspects.select([*_COLUMNS, "count"]).to_pylist():
        if row["dimensions"] == other_of(row["dimension_set"]):
            found[metrics[row["metric_id"]].name, row["dimension_set"]] += row["count"]
    return found
