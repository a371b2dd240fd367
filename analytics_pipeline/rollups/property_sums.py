"""Numbers of automatic metrics: sums of single properties, which no column of `facts` holds.

Belongs here: reading these properties and adding them up. Events of other types cost one comparison of their type.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups.catalog import Catalog, Metric
from analytics_pipeline.rollups.facts import MINUTE, number_of
from analytics_pipeline.rollups.plan import rounded

_read = msgspec.json.Decoder(dict[str, Any]).decode
_SUMS = f"""
    SELECT place, minute, count(v), sum(v), min(v)::DOUBLE, max(v)::DOUBLE
    FROM (SELECT place, minute, {rounded("value")} AS v FROM measured)
    WHERE v IS NOT NULL
    GROUP BY place, minute
"""  # noqa: S608  (constants of ours)


class PropertySum(NamedTuple):
    """One metric in one minute (µs since 1970)."""

    metric: Metric
    minute: int
    events: int
    total: Decimal
    least: float
    most: float


class Measured:
    """The automatic metrics of a catalog, by event type."""

    def __init__(self, catalog: Catalog) -> None:
        self._metrics = [metric for metric in catalog.metrics if metric.property_name is not None]
        self._of_type: dict[str, list[tuple[int, str]]] = {}
        for place, metric in enumerate(self._metrics):
            for event_type in metric.event_types:
                self._of_type.setdefault(event_type, []).append((place, metric.property_name or ""))
        self._types = pa.array(list(self._of_type), pa.string())

    def sums(self, db: duckdb.DuckDBPyConnection, events: pa.Table) -> Iterator[PropertySum]:
        """Add up what the events of these types have; values are rounded and skipped as everywhere.

        Args:
            db: an engine of this thread.
            events: event_type, properties (JSON text) and timestamp (µs UTC).
        """
        if not self._metrics:
            return
        wanted = events.filter(pc.is_in(events.column("event_type"), self._types))
        if wanted.num_rows == 0:
            return
        db.register("measured", self._measured(wanted))
        try:
            rows = db.execute(_SUMS).fetchall()
        finally:
            db.unregister("measured")
        for place, *numbers in rows:
            yield PropertySum(self._metrics[place], *numbers)

    def _measured(self, events: pa.Table) -> pa.Table:
        """A row for each number: place of its metric, minute, value."""
        places: list[int] = []
        minutes: list[int] = []
        values: list[float] = []
        columns = (
            events.column("event_type").to_pylist(),
            events.column("properties").to_pylist(),
            events.column("timestamp").cast(pa.int64()).to_pylist(),
        )
        for event_type, text, at in zip(*columns, strict=True):
            properties = _properties(text)
            for place, value in _numbers(properties, self._of_type[event_type]):
                places.append(place)
                minutes.append(at - at % MINUTE)
                values.append(value)
        return pa.table(
            {
                "place": pa.array(places, pa.int32()),
                "minute": pa.array(minutes, pa.int64()),
                "value": pa.array(values, pa.float64()),
            }
        )


def _numbers(properties: Mapping[str, Any], wanted: Sequence[tuple[int, str]]) -> Iterator[tuple[int, float]]:
    for place, name in wanted:
        value = number_of(properties.get(name))
        if value is not None:
            yield place, value


def _properties(text: str | None) -> Mapping[str, Any]:
    try:
        return _read(text or "{}")
    except (msgspec.MsgspecError, RecursionError):  # not landed: written by other programs
        return {}
