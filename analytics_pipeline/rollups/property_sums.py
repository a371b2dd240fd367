"""Numbers of automatic metrics: sums of single properties, which no column of `facts` holds.

Belongs here: reading these properties and adding them up. Events of other types cost one comparison of their type.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups.catalog import Catalog, Metric
from analytics_pipeline.rollups.facts import MINUTE, Integers, number_of
from analytics_pipeline.rollups.values import Floats, add_up, decimal, rounded

_read = msgspec.json.Decoder(dict[str, Any]).decode


class PropertySum(NamedTuple):
    """One metric in one minute (µs since 1970): its numbers, if `events` have some, and how many were skipped."""

    metric: Metric
    minute: int
    events: int
    total: Decimal
    least: float
    most: float
    skipped: int


class Measured:
    """The automatic metrics of a catalog, by event type."""

    def __init__(self, catalog: Catalog) -> None:
        self._metrics = [metric for metric in catalog.metrics if metric.property_name is not None]
        self._of_type: dict[str, list[tuple[int, str]]] = {}
        for place, metric in enumerate(self._metrics):
            for event_type in metric.event_types:
                self._of_type.setdefault(event_type, []).append((place, metric.property_name or ""))
        self._types = pa.array(list(self._of_type), pa.string())

    def sums(self, events: pa.Table) -> Iterator[PropertySum]:
        """Add up what the events of these types have; values are rounded and skipped as everywhere.

        Args:
            events: event_type, properties (JSON text) and timestamp (µs UTC).
        """
        if not self._metrics:
            return
        wanted = events.filter(pc.is_in(events.column("event_type"), self._types))
        places, minutes, numbers = self._measured(wanted)
        starts, minute = np.unique(minutes, return_inverse=True)
        groups, size = places * len(starts) + minute, len(self._metrics) * len(starts)
        values = rounded(numbers, np.zeros(len(numbers), bool))
        sums = add_up(values, groups[values.where], size)
        skipped = np.bincount(groups[values.skipped], minlength=size)
        for group in np.flatnonzero(sums.counts + skipped).tolist():
            place, minute_of = divmod(group, len(starts))
            yield PropertySum(
                self._metrics[place], int(starts[minute_of]), int(sums.counts[group]), decimal(sums.totals[group]),
                float(sums.least[group]), float(sums.most[group]), int(skipped[group]),
            )  # fmt: skip

    def _measured(self, events: pa.Table) -> tuple[Integers, Integers, Floats]:
        """Of each property that is there: the place of its metric, its minute, the number, infinite if it is none."""
        found: list[tuple[int, int, float]] = []
        columns = (
            events.column("event_type").to_pylist(),
            events.column("properties").to_pylist(),
            events.column("timestamp").cast(pa.int64()).to_pylist(),
        )
        for event_type, text, at in zip(*columns, strict=True):
            properties = _properties(text)
            minute = at - at % MINUTE
            found += [
                (place, minute, number) for place, number in _numbers(properties, self._of_type[event_type])
            ]
        places, minutes, numbers = zip(*found, strict=True) if found else ((), (), ())
        return np.array(places, np.int64), np.array(minutes, np.int64), np.array(numbers, np.float64)


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
