"""Partial states of a batch of events: what a landing writes beside the events, and what a recompute reads from raw.

Belongs here: the rows of every metric, of groups of events. Does not belong here: adding deltas up to levels
(`levels`), encoding of states (`states`), evaluating and adding up values (`values`), Postgres.

What grows with events is calls of numpy for all of them at once; what grows with series is a loop.
"""

import hashlib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise, repeat
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import (
    REGISTER_ID,
    REGISTER_NAME,
    SKIPPED,
    Catalog,
    Kind,
    Metric,
    dimension_set_name,
)
from analytics_pipeline.rollups.facts import Facts, Integers, Part, compact
from analytics_pipeline.rollups.groups import Groups, grouped
from analytics_pipeline.rollups.property_sums import Measured
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA
from analytics_pipeline.rollups.values import Values, add_up, decimal, evaluate

_HOUR = 3_600_000_000

_Numbers = tuple[int, Decimal | None, float | None, float | None, bytes | None]
"""Count, sum, min, max and state."""
_Row = tuple[int, str, str, str, str, str, int, Decimal | None, float | None, float | None, bytes | None]
"""`DELTAS_SCHEMA` without the hour, minutes in µs."""


_DIMENSION_SET = itemgetter(3)


@lru_cache(maxsize=8)
def _measured(catalog: Catalog) -> Measured:
    return Measured(catalog)


def compute_deltas(events: pa.Table, catalog: Catalog) -> pa.Table:
    """Compute the partial states of every metric of a catalog for the minutes a batch touches.

    Args:
        events: what `Facts` wants; every row counts.
        catalog: what is computed.

    Returns:
        `DELTAS_SCHEMA`, one row per minute and series, totals first; the same events in any order, or split over
        several calls and merged, give the same states to the byte.
    """
    if events.num_rows == 0:
        return DELTAS_SCHEMA.empty_table()
    batch = _Batch(Facts(events))
    rows = [*_register_rows(batch.facts)]
    for metric in catalog.metrics:
        if metric.property_name is None:
            rows += _rows(metric, batch)
    for found in _measured(catalog).sums(events):
        numbers = (found.events, found.total, found.least, found.most, None)
        if found.events:
            rows += _named(found.metric, "", [(found.minute, found.metric.name, "{}")], [numbers])
        if found.skipped:
            rows.append(_skipped_row(found.metric, found.minute, found.skipped))
    # Totals are what is read most: side by side they are a page or two of a batch, else one of each metric.
    rows.sort(key=_DIMENSION_SET)
    return _table(rows)


class _Batch:
    """A batch, and what several metrics need of it."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._parts: dict[tuple[str, ...], Part] = {}
        self._groups: dict[tuple[tuple[str, ...], tuple[str, ...]], Groups] = {}
        self._values: dict[tuple[tuple[str, ...], str], Values] = {}

    def part(self, event_types: tuple[str, ...]) -> Part:
        if event_types not in self._parts:
            self._parts[event_types] = self.facts.of(event_types)
        return self._parts[event_types]

    def groups(self, event_types: tuple[str, ...], dimensions: tuple[str, ...]) -> Groups:
        key = (event_types, dimensions)
        if key not in self._groups:
            self._groups[key] = grouped(self.part(event_types), dimensions)
        return self._groups[key]

    def values(self, event_types: tuple[str, ...], expression: str) -> Values:
        key = (event_types, expression)
        if key not in self._values:
            self._values[key] = evaluate(self.part(event_types), expression)
        return self._values[key]


def _rows(metric: Metric, batch: _Batch) -> Iterator[_Row]:
    part = batch.part(metric.event_types)
    if not len(part.rows):
        return
    for dimensions in metric.dimension_sets:
        groups = batch.groups(metric.event_types, dimensions)
        if metric.ratio is not None:
            found, numbers = _ratios(metric.ratio, part, groups)
        elif metric.value is None:
            found, numbers = _counts(groups)
        elif metric.kind is Kind.DISTINCT:
            found, numbers = _distinct(metric.value, part, groups)
        else:
            values = batch.values(metric.event_types, metric.value)
            found, numbers = _sums(metric.kind, part, values, groups)
        yield from _named(metric, dimension_set_name(dimensions), groups.named(found, metric), numbers)
    if metric.is_summed and metric.value is not None:
        yield from _skipped_rows(metric, batch.values(metric.event_types, metric.value), part)


def _named(
    metric: Metric, dimension_set: str, names: Iterable[tuple[int, str, str]], numbers: Iterable[_Numbers]
) -> Iterator[_Row]:
    """Rows of groups, each with its minute, metric name and dimensions."""
    metric_id, kind = metric.metric_id, metric.kind.value
    for (minute, name, dimensions), found in zip(names, numbers, strict=True):
        yield (minute, metric_id, name, dimension_set, dimensions, kind, *found)


def _skipped_rows(metric: Metric, values: Values, part: Part) -> Iterator[_Row]:
    """Per minute: how many events have something else in the place of the value."""
    if len(values.skipped):
        counts = np.bincount(part.minute[values.skipped], minlength=len(part.facts.minutes)).tolist()
        for minute, count in zip(part.facts.minutes.tolist(), counts, strict=True):
            if count:
                yield _skipped_row(metric, minute, count)


def _skipped_row(metric: Metric, minute: int, count: int) -> _Row:
    return (
        minute, metric.metric_id, metric.name, SKIPPED, "{}", Kind.VALUE.value, count, None, None, None, None,
    )  # fmt: skip


def _counts(groups: Groups) -> tuple[Integers, Iterable[_Numbers]]:
    counts = np.bincount(groups.of_event, minlength=len(groups.minutes))
    found = np.flatnonzero(counts)
    return found, ((count, None, None, None, None) for count in counts[found].tolist())


def _ratios(ratio: tuple[str, str], part: Part, groups: Groups) -> tuple[Integers, Iterable[_Numbers]]:
    """Of a ratio, minimum and maximum mean nothing."""
    types = part.coded("event_type")
    size = len(groups.minutes)
    above, below = (
        np.bincount(groups.of_event[types.codes == types.place(event_type)], minlength=size)
        for event_type in ratio
    )
    found = np.flatnonzero(above + below)
    pairs = zip(below[found].tolist(), above[found].tolist(), strict=True)
    return found, ((count, Decimal(100 * many), None, None, None) for count, many in pairs)


def _distinct(name: str, part: Part, groups: Groups) -> tuple[Integers, Iterable[_Numbers]]:
    """How many events have the value, and the hashes of the distinct ones."""
    coded = part.coded(name)
    has_value = coded.codes != coded.place(None)
    of_event, codes = groups.of_event[has_value], coded.codes[has_value]
    counts = np.bincount(of_event, minlength=len(groups.minutes))
    found = np.flatnonzero(counts)
    width = len(coded.values)
    pairs, _ = compact(of_event * width + codes, len(counts) * width)
    hashes = _hashes(coded.values)
    packed = (
        states.distinct_pack(np.unique(hashes[pairs[first:last] % width]))
        for first, last in _edges(pairs // width)
    )
    return found, (
        (count, None, None, None, state) for count, state in zip(counts[found].tolist(), packed, strict=True)
    )


def _sums(kind: Kind, part: Part, values: Values, groups: Groups) -> tuple[Integers, Iterable[_Numbers]]:
    of_value = groups.of_event[values.where]
    sums = add_up(values, of_value, len(groups.minutes))
    found = np.flatnonzero(sums.counts)
    packed: Iterable[bytes | None] = repeat(None, len(found))
    if kind is Kind.QUANTILE:
        packed = _histograms(values, of_value)
    elif kind is Kind.ENDS:
        packed = _ends(part, values, of_value, len(groups.minutes))
    return found, zip(
        sums.counts[found].tolist(),
        [decimal(sums.totals[place]) for place in found.tolist()],
        sums.least[found].tolist(),
        sums.most[found].tolist(),
        packed,
        strict=True,
    )


def _histograms(values: Values, groups: Integers) -> Iterator[bytes]:
    """The packed bins of each group that has values."""
    keys = states.quantile_keys(values.numbers).astype(np.int64)
    width = 1 << 16
    bins, counts = np.unique(groups * width + keys + width // 2, return_counts=True)
    keys = (bins % width - width // 2).astype(np.int16)
    for first, last in _edges(bins // width):
        yield states.quantile_pack(keys[first:last], counts[first:last])


def _ends(part: Part, values: Values, groups: Integers, size: int) -> Iterator[bytes]:
    """The first and the last value of each group that has values."""
    rows = part.rows[values.where]
    at, ids, numbers = part.facts.at[rows], part.facts.ids[rows], values.numbers

    def packed(edge: Any, start: int) -> list[bytes]:
        times = np.full(size, start)
        edge.at(times, groups, at)
        ends = np.flatnonzero(at == times[groups])
        order = np.lexsort((ids[ends, 1], ids[ends, 0]))
        chosen = ends[order if edge is np.maximum else order[::-1]]
        end_of = np.full(size, -1)
        end_of[groups[chosen]] = chosen  # of several the last stays
        return [
            states.end_pack(int(at[end]), ids[end].astype(">u8").tobytes(), float(numbers[end]))
            for end in end_of[end_of >= 0].tolist()
        ]

    bounds = np.iinfo(np.int64)
    return map(states.ends_pack, packed(np.minimum, bounds.max), packed(np.maximum, bounds.min))


def _register_rows(facts: Facts) -> Iterator[_Row]:
    """Per minute: events, late events in `sum`, the set hash in `state`."""
    size = len(facts.minutes)
    counts = np.bincount(facts.minute, minlength=size).tolist()
    late = np.bincount(facts.minute[facts.is_late], minlength=size).tolist()
    hashes = zip(
        _hash_sums(facts.high, facts.minute, size), _hash_sums(facts.low, facts.minute, size), strict=True
    )
    for minute, events, late_events, (high, low) in zip(
        facts.minutes.tolist(), counts, late, hashes, strict=True
    ):
        state = states.register_pack(((high << 64) + low) % states.MODULUS)
        yield (
            minute, REGISTER_ID, REGISTER_NAME, "", "{}", Kind.REGISTER.value,
            events, Decimal(late_events), None, None, state,
        )  # fmt: skip


def _hash_sums(hashes: npt.NDArray[np.uint64], minute: Integers, size: int) -> list[int]:
    """Exact sums of numbers of 64 bits, in lanes of 32."""
    found = np.zeros((2, size), np.uint64)
    np.add.at(found[0], minute, hashes >> np.uint64(32))
    np.add.at(found[1], minute, hashes & np.uint64(0xFFFFFFFF))
    return [(high << 32) + low for high, low in found.T.tolist()]


def _edges(groups: Integers) -> Iterable[tuple[int, int]]:
    """Where each group begins and ends, of ascending ones."""
    return pairwise([0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]) if len(groups) else ()


def _hashes(values: list[str | None]) -> npt.NDArray[np.uint64]:
    """The last eight bytes of the MD5 of each text: spread evenly, the same everywhere."""
    digests = (hashlib.md5((value or "").encode(), usedforsecurity=False).digest()[8:] for value in values)
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def _table(rows: list[_Row]) -> pa.Table:
    names = [field.name for field in DELTAS_SCHEMA if field.name != "hour"]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    columns["hour"] = [minute - minute % _HOUR for minute in columns["minute"]]
    return pa.table(
        [pa.array(columns[field.name], field.type) for field in DELTAS_SCHEMA], schema=DELTAS_SCHEMA
    )
