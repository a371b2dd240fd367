"""Partial states of a batch of events: what a landing writes beside the events, and what a recompute reads from raw.

Belongs here: running the catalog's statements (`plan`) over facts by DuckDB, and putting rows and states together.
Does not belong here: adding deltas up to levels (`levels`), encoding of states (`states`), Postgres.

DuckDB does what grows with events, in as few statements as possible: planning one costs milliseconds, as much as
thousands of events. What is left, sums per event type, is added up to metrics here.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import (
    REGISTER_ID,
    REGISTER_NAME,
    TEXT_FIELDS,
    Catalog,
    Kind,
    Metric,
    dimension_set_name,
)
from analytics_pipeline.rollups.engine import plain_engine
from analytics_pipeline.rollups.facts import facts_of
from analytics_pipeline.rollups.plan import Plan, part_of
from analytics_pipeline.rollups.property_sums import Measured, PropertySum
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA

_HOUR = 3_600_000_000
_EXACT = Context(prec=60)
"""More digits than a sum can have: Decimal's default would round."""

_EVENTS = 3 + len(TEXT_FIELDS)
_FIRST_VALUE = _EVENTS + 4


class _Use(NamedTuple):
    """A metric under one of its dimension sets, and where its numbers stand in a row of `Plan.sums`."""

    metric: Metric
    dimension_set: str
    dimensions: tuple[tuple[str, int], ...]
    """Names, sorted, and the column of each."""
    value_at: int | None
    """The column of its count; sum, min and max follow."""


class _Program(NamedTuple):
    """What follows from a catalog: its statements, and what each part of `Plan.sums` is needed for."""

    plan: Plan
    uses: tuple[tuple[int, _Use], ...]
    distinct: tuple[Metric, ...]
    measured: Measured


@lru_cache(maxsize=8)
def _program(catalog: Catalog) -> _Program:
    plan = Plan(catalog)
    found: list[tuple[int, _Use]] = []
    place = {"event_type": 2} | {name: 3 + index for index, name in enumerate(TEXT_FIELDS)}
    for metric in catalog.metrics:
        if metric.kind is Kind.DISTINCT or metric.property_name is not None:
            continue
        value = None if metric.value is None else _FIRST_VALUE + 4 * plan.values.index(metric.value)
        for dimensions in metric.dimension_sets:
            columns = tuple((name, place[name]) for name in sorted(dimensions))
            found.append((part_of(dimensions), _Use(metric, dimension_set_name(dimensions), columns, value)))
    distinct = tuple(metric for metric in catalog.metrics if metric.kind is Kind.DISTINCT)
    return _Program(plan, tuple(found), distinct, Measured(catalog))


def compute_deltas(events: pa.Table, catalog: Catalog) -> pa.Table:
    """Compute the partial states of every metric of a catalog for the minutes a batch touches.

    Args:
        events: what `facts_of` wants; every row counts.
        catalog: what is computed; its statements are made once and kept.

    Returns:
        `DELTAS_SCHEMA`, one row per minute and series; the same events in any order, or split over several
        calls and merged, give the same states to the byte.
    """
    if events.num_rows == 0:
        return DELTAS_SCHEMA.empty_table()
    program = _program(catalog)
    facts = facts_of(events)
    db = plain_engine()
    db.register("facts", facts)
    try:
        sums = db.execute(program.plan.sums).fetchall()
        queries = program.plan.histograms
        histograms = {metric_id: _histograms(db, query) for metric_id, query in queries.items()}
    finally:
        db.unregister("facts")
    rows = [*_value_rows(program.uses, sums, histograms), *_register_rows(sums)]
    for metric in program.distinct:
        rows += _distinct_rows(metric, facts)
    rows += [_property_row(found) for found in program.measured.sums(db, events)]
    return _table(rows)


_Series = tuple[int, int, tuple[str | None, ...]]
"""Part, minute, and the value of each text field, None where it is not grouped by (or missing)."""

_Row = tuple[int, str, str, str, str, str, int, Decimal | None, float | None, float | None, bytes | None]
"""`DELTAS_SCHEMA` without the hour, minutes in µs."""


def _histograms(db: duckdb.DuckDBPyConnection, query: str) -> dict[_Series, bytes]:
    """The packed bins of each series."""
    rows: pa.Table = db.sql(query).to_arrow_table()
    if rows.num_rows == 0:
        return {}
    parts, minutes = rows["part"].to_numpy(), rows["minute"].to_numpy()
    texts = [rows[name].combine_chunks().dictionary_encode() for name in TEXT_FIELDS]
    codes = [column.indices.fill_null(-1).to_numpy() for column in texts]
    changes = np.any([np.diff(column) != 0 for column in (parts, minutes, *codes)], axis=0)
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), rows.num_rows]
    keys, counts = rows["key"].to_numpy(), rows["count"].to_numpy()
    return {
        (int(parts[first]), int(minutes[first]), tuple(column[first].as_py() for column in texts)): (
            states.quantile_pack(keys[first:last], counts[first:last])
        )
        for first, last in pairwise(edges)
    }


def _value_rows(
    uses: Sequence[tuple[int, _Use]],
    sums: list[tuple[Any, ...]],
    histograms: dict[str, dict[_Series, bytes]],
) -> Iterator[_Row]:
    """Sums per event type, added up to the metrics that these types belong to."""
    found: dict[tuple[int, int, tuple[Any, ...]], list[Any]] = {}
    of_type: dict[tuple[int, str], list[tuple[int, _Use]]] = {}
    with localcontext(_EXACT):
        for row in sums:
            part, minute, event_type = row[:3]
            if (part, event_type) not in of_type:
                of_type[part, event_type] = [
                    (number, use)
                    for number, (of_part, use) in enumerate(uses)
                    if of_part == part
                    and (not use.metric.event_types or event_type in use.metric.event_types)
                ]
            for number, use in of_type[part, event_type]:
                key = (number, minute, tuple(row[column] for _, column in use.dimensions))
                _add(found.setdefault(key, [0, None, None, None]), use, row)
    names: dict[tuple[int, tuple[Any, ...]], str] = {}
    for (number, minute, values), (count, total, least, most) in found.items():
        if not count and total is None:
            continue
        part, use = uses[number]
        metric = use.metric
        dimensions = names.get((number, values))
        if dimensions is None:
            texts = {name: value for (name, _), value in zip(use.dimensions, values, strict=True)}
            dimensions = names[number, values] = _json(texts)
        state = None
        if metric.kind is Kind.QUANTILE:
            by_name = {name: value for (name, _), value in zip(use.dimensions, values, strict=True)}
            state = histograms[metric.metric_id][part, minute, tuple(by_name.get(n) for n in TEXT_FIELDS)]
        name = f"{metric.name}.{values[0]}" if metric.name_by_dimension and values else metric.name
        yield (
            minute, metric.metric_id, name, use.dimension_set, dimensions, metric.kind.value,
            count, total, least, most, state,
        )  # fmt: skip


def _add(into: list[Any], use: _Use, row: tuple[Any, ...]) -> None:
    """Add one row's count, sum, minimum and maximum; of a ratio, the last two mean nothing."""
    if use.metric.ratio is not None:
        numerator, denominator = use.metric.ratio
        into[0] += row[_EVENTS] if row[2] == denominator else 0
        into[1] = (into[1] or Decimal(0)) + (100 * row[_EVENTS] if row[2] == numerator else 0)
        return
    if use.value_at is None:
        into[0] += row[_EVENTS]
        return
    count, total, least, most = row[use.value_at : use.value_at + 4]
    if count:
        into[0] += count
        into[1] = total if into[1] is None else into[1] + total
        into[2] = least if into[2] is None else min(into[2], least)
        into[3] = most if into[3] is None else max(into[3], most)


def _register_rows(sums: list[tuple[Any, ...]]) -> Iterator[_Row]:
    """Per minute: events, late events in `sum`, the set hash in `state`."""
    everything = part_of(())
    found: dict[int, list[int]] = {}
    for row in sums:
        if row[0] == everything:
            totals = found.setdefault(row[1], [0, 0, 0])
            events, late, high, low = row[_EVENTS:_FIRST_VALUE]
            totals[0] += events
            totals[1] += late
            totals[2] += (int(high) << 64) + int(low)
    for minute, (events, late, set_hash) in found.items():
        state = states.register_pack(set_hash % states.MODULUS)
        yield (
            minute, REGISTER_ID, REGISTER_NAME, "", "{}", Kind.REGISTER.value,
            events, Decimal(late), None, None, state,
        )  # fmt: skip


def _distinct_rows(metric: Metric, facts: pa.Table) -> Iterator[_Row]:
    """Per minute: how many events have the value, and the hashes of the distinct ones."""
    wanted = pc.is_valid(facts[metric.value])
    if metric.event_types:
        wanted = pc.and_(wanted, pc.is_in(facts["event_type"], pa.array(metric.event_types)))
    rows = facts.select(["minute", metric.value]).filter(wanted)
    if rows.num_rows == 0:
        return
    values = rows[metric.value].combine_chunks().dictionary_encode()
    minutes, places = np.unique(rows["minute"].to_numpy(), return_inverse=True)
    hashes = _hashes(values.dictionary.to_pylist())
    counts = np.bincount(places)
    pairs = np.unique(places * len(hashes) + values.indices.to_numpy())
    edges = np.searchsorted(pairs, np.arange(len(minutes) + 1) * len(hashes))
    for place, minute in enumerate(minutes.tolist()):
        found = np.unique(hashes[pairs[edges[place] : edges[place + 1]] % len(hashes)])
        yield (
            minute, metric.metric_id, metric.name, "", "{}", Kind.DISTINCT.value,
            int(counts[place]), None, None, None, states.distinct_pack(found),
        )  # fmt: skip


def _property_row(found: PropertySum) -> _Row:
    metric = found.metric
    return (
        found.minute, metric.metric_id, metric.name, "", "{}", metric.kind.value,
        found.events, found.total, found.least, found.most, None,
    )  # fmt: skip


def _hashes(values: list[str]) -> npt.NDArray[np.uint64]:
    """The last eight bytes of the MD5 of each text: spread evenly, the same everywhere."""
    digests = b"".join(hashlib.md5(value.encode(), usedforsecurity=False).digest()[8:] for value in values)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _json(values: dict[str, Any]) -> str:
    """As `schema.canonical_dimensions` writes them."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _table(rows: list[_Row]) -> pa.Table:
    names = [field.name for field in DELTAS_SCHEMA if field.name != "hour"]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    columns["hour"] = [minute - minute % _HOUR for minute in columns["minute"]]
    return pa.table(
        [pa.array(columns[field.name], field.type) for field in DELTAS_SCHEMA], schema=DELTAS_SCHEMA
    )
