"""Groups of events: those of one minute with the same dimensions.

Belongs here: numbering groups, and what each is called. Does not belong here: what is computed of them (`deltas`).
"""

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from analytics_pipeline.rollups.catalog import Metric
from analytics_pipeline.rollups.facts import Integers, Part, compact

_MOST_KNOWN = 16_384
"""Texts of dimensions kept, a few MB."""


class Groups(NamedTuple):
    """The groups of a part of a batch.

    Attributes:
        of_event: of each event, the number of its group.
        minutes: of each group, µs since 1970.
        values: of each group, what it has of each dimension, in the order of their names.
        dimensions: of each group, the same as JSON text.
    """

    of_event: Integers
    minutes: list[int]
    values: list[tuple[str | None, ...]]
    dimensions: list[str]

    def named(self, places: Integers, metric: Metric) -> Iterator[tuple[int, str, str]]:
        """Minute, name of the metric, and dimensions of some of the groups."""
        has_name_of_its_own = metric.name_by_dimension and bool(self.values[0])
        for place in places.tolist():
            name = f"{metric.name}.{self.values[place][0]}" if has_name_of_its_own else metric.name
            yield self.minutes[place], name, self.dimensions[place]


def grouped(part: Part, dimensions: Iterable[str]) -> Groups:
    """Group events by minute and dimensions; without dimensions there is a group for every minute of the batch."""
    names = tuple(sorted(dimensions))
    of_event, minute = part.minute, np.arange(len(part.facts.minutes))
    columns: list[Integers] = []
    for name in names:
        coded = part.coded(name)
        width = len(coded.values)
        found, of_event = compact(of_event * width + coded.codes, len(minute) * width)
        before, own = np.divmod(found, width)
        minute, columns = minute[before], [*(column[before] for column in columns), own]
    texts = [
        [coded.values[code] for code in column.tolist()]
        for coded, column in zip(map(part.coded, names), columns, strict=True)
    ]
    values: list[tuple[str | None, ...]] = list(zip(*texts, strict=True)) if names else [()] * len(minute)
    known = {one: _json(names, one) for one in set(values)}
    return Groups(of_event, part.facts.minutes[minute].tolist(), values, [known[one] for one in values])


@lru_cache(_MOST_KNOWN)
def _json(names: tuple[str, ...], values: tuple[str | None, ...]) -> str:
    """As `schema.canonical_dimensions` writes them; kept, because the next batch has the same series."""
    return json.dumps(dict(zip(names, values, strict=True)), separators=(",", ":"), ensure_ascii=False)
