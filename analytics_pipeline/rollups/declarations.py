"""Rules of a metric's declaration: what is wrong is said when definitions load, never found in numbers.

Belongs here: one generator for each rule, all of them about declarations alone, and where a declaration stands.
Does not belong here: what a metric is (`catalog`), and the text of a value (`expressions`).
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from analytics_pipeline.rollups import expressions

if TYPE_CHECKING:
    from analytics_pipeline.rollups.catalog import Kind, Metric

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")
_LONGEST_NAME = 100
_LONGEST_EVENT_TYPE = 255
_LONGEST_UNIT = 30
_LARGEST_VALUE = 255 * 4
"""Bytes of a dimension's value: longer ones are cut to 255 characters."""
_LARGEST_SERIES = 2_500
"""Bytes of the dimensions of a series: a row of an index of Postgres has 2,704, for name and time, too."""
_AUTOMATIC = "custom."
_MAKERS = {"dataclasses", "copy"}
"""Modules whose code stands between a declaration and what it makes, beside generated code."""
EVENT_TEXTS = ("event_type", "user_id", "session_id")
"""Columns of every event that hold text; its properties come after."""

_COUNTED = ("count",)
_VALUED = (*_COUNTED, "sum", "avg", "min", "max")
_KEPT = {
    "value": _VALUED,
    "quantile": (*_VALUED, "p50", "p95", "p99"),
    "distinct": (*_COUNTED, "distinct"),
    "ends": (*_VALUED, "first", "last", "ohlc"),
}
"""Which aggregations can be had of a metric with a value, by what its kind keeps."""


def place_of_caller() -> str:
    """`file:line` of the declaration that is being made: of the outermost call in the file that makes it."""
    frame: Any = sys._getframe(1)
    while frame.f_code.co_filename.startswith("<") or frame.f_globals.get("__name__") in _MAKERS:
        frame = frame.f_back
    file = frame.f_code.co_filename
    while frame.f_back is not None and frame.f_back.f_code.co_filename == file:
        frame = frame.f_back
    return f"{file}:{frame.f_lineno}"


def problems_of(metrics: Sequence["Metric"], *, texts: Sequence[str], numbers: Sequence[str]) -> list[str]:
    """Everything that is wrong with these declarations: a sentence each, which begins with the line to mend.

    Args:
        metrics: those of one catalog.
        texts: properties that hold text.
        numbers: properties that hold a number.
    """
    texts, numbers = (*EVENT_TEXTS, *texts), tuple(numbers)
    sound: list[Metric] = []
    found = []
    for metric in metrics:
        problems = list(_shapes(metric))
        if not problems:
            sound.append(metric)
            problems = list(_of_one(metric, texts, numbers))
        found += [f"{metric.declared_at}: metric {metric.name!r}: {problem}" for problem in problems]
    return [*found, *_of_all(sound)]


def _of_one(metric: "Metric", texts: tuple[str, ...], numbers: tuple[str, ...]) -> Iterator[str]:
    yield from _words(metric)
    yield from _event_types(metric)
    yield from _source(metric)
    yield from _value(metric, texts, numbers)
    yield from _dimensions(metric, ("event_type", *texts[len(EVENT_TEXTS) :]))
    yield from _aggregations(metric)


def _shapes(metric: "Metric") -> Iterator[str]:
    """Types; without them no other rule can look."""
    from analytics_pipeline.rollups.catalog import Aggregation, Kind  # it asks this module while it is loaded

    for field in ("name", "description", "unit"):
        if not isinstance(getattr(metric, field), str):
            yield f"its {field} is no text: write it in quotes"
    for field in ("value", "property_name"):
        if not isinstance(getattr(metric, field), str | None):
            yield f"its {field} is no text: write it in quotes, or leave it out"
    if not _is_tuple(metric.event_types, str):
        yield 'its event_types are no tuple of texts: write ("order.filled",), with the comma'
    if metric.ratio is not None and not (_is_tuple(metric.ratio, str) and len(metric.ratio) == 2):
        yield 'its ratio is no pair of event types: write ("order.filled", "order.placed")'
    if not isinstance(metric.dimension_sets, tuple) or not all(
        _is_tuple(one, str) for one in metric.dimension_sets
    ):
        yield 'its dimension_sets are no tuple of tuples: write ((), ("symbol",)), with the commas'
    if not isinstance(metric.kind, Kind):
        yield "its kind is none of Kind: write Kind.VALUE, or another of its members"
    if not isinstance(metric.series_limit, int) or isinstance(metric.series_limit, bool):
        yield "its series_limit is no whole number: write 500, say, or leave it out"
    if not _is_tuple(metric.aggregations, Aggregation):
        yield "its aggregations are no tuple of Aggregation: write (Aggregation.SUM,), with the comma"


def _is_tuple(found: object, of: type) -> bool:
    return isinstance(found, tuple) and all(isinstance(one, of) for one in found)


def _words(metric: "Metric") -> Iterator[str]:
    is_automatic = metric.property_name is not None
    if not is_automatic and not _NAME.fullmatch(metric.name):
        yield "its name must be a group, a dot and a name, such as trading.total_volume: a-z, 0-9 and _ alone"
    if not is_automatic and len(metric.name) > _LONGEST_NAME:
        yield f"its name has {len(metric.name)} characters: {_LONGEST_NAME} are the most"
    if metric.name.startswith(_AUTOMATIC) != is_automatic:
        yield f"names that begin with {_AUTOMATIC} are those of metrics of custom events: choose another group"
    if not metric.description.strip() or not metric.description.isprintable():
        yield "it has no description of one line: say in one sentence what it measures"
    if not metric.unit.strip() or not metric.unit.isprintable() or len(metric.unit) > _LONGEST_UNIT:
        yield "it has no unit in one word: say what its numbers are, such as ms, percent, quote or 1"


def _event_types(metric: "Metric") -> Iterator[str]:
    for one in metric.event_types:
        if not 1 <= len(one) <= _LONGEST_EVENT_TYPE or any(
            unicodedata.category(sign) == "Cc" for sign in one
        ):
            yield (
                f"no event can be of the type {one!r}: a type has 1 to {_LONGEST_EVENT_TYPE} characters, "
                "none of them a control character"
            )
    for one in _twice(metric.event_types):
        yield f"its event_types name {one} twice: once is enough"


def _source(metric: "Metric") -> Iterator[str]:
    """Where its numbers come from: at most one of value, ratio, property_name."""
    given = [
        name
        for name, found in (
            ("value", metric.value),
            ("ratio", metric.ratio),
            ("property_name", metric.property_name),
        )
        if found is not None
    ]
    if len(given) > 1:
        yield f"it has {' and '.join(given)}: its numbers can come from one of them alone"
    if metric.ratio is not None:
        if metric.ratio[0] == metric.ratio[1]:
            yield f"its ratio divides {metric.ratio[0]} by itself: name two event types"
        elif set(metric.event_types) != set(metric.ratio):
            yield f"its event_types are not those of its ratio: write {(metric.ratio[1], metric.ratio[0])}"
    if metric.property_name is not None and not metric.event_types:
        yield "it has a property_name and no event_types: say whose property it is"


def _value(metric: "Metric", texts: tuple[str, ...], numbers: tuple[str, ...]) -> Iterator[str]:
    kind = metric.kind.value
    if kind not in _KEPT:
        yield f"its kind {kind} is not for metrics: choose one of {', '.join(_KEPT)}"
    elif kind != "value" and metric.value is None:
        yield f"its kind is {kind}, and it has no value: say of what"
    elif kind == "distinct":
        if metric.value not in texts:
            yield f"its distinct values are those of {metric.value!r}: it must be one of {', '.join(texts)}"
    elif metric.value is not None:
        yield from expressions.faults(metric.value, texts, numbers)


def _dimensions(metric: "Metric", known: Sequence[str]) -> Iterator[str]:
    sets = metric.dimension_sets
    for one in sets:
        for name in dict.fromkeys(one):
            if name not in known:
                yield f"its dimension {name!r} is unknown: it must be one of {', '.join(known)}"
        for name in _twice(one):
            yield f"its dimension set {one} names {name} twice: once is enough"
        # Names stand in the index twice, as a list and as keys; an entry of jsonb has 4 bytes.
        if sum(_LARGEST_VALUE + 2 * (len(name.encode()) + 4) for name in one) > _LARGEST_SERIES:
            yield (
                f"its dimension set {one} fits no index with the longest values, of 255 characters each: "
                "two dimensions are the most"
            )
    for names in _twice([tuple(sorted(set(one))) for one in sets]):
        yield f"its dimension_sets have {names} twice: once is enough"
    if not sets:
        yield "it has no dimension_sets: write ((),) for the total alone"
    if metric.is_carried and (metric.kind.value != "ends" or len(sets) != 1 or not sets[0]):
        yield (
            "its last values are carried, so it must be of the kind ends and have one dimension set, "
            "without the total"
        )
    if () not in sets and metric.property_name is not None:
        yield "a metric of one property has nothing but the total: leave dimension_sets out"
    if metric.series_limit < 1:
        yield f"its series_limit is {metric.series_limit}: a group has at least 1 series in a UTC day"
    has_groups = any(sets)
    if has_groups and metric.kind.value == "distinct":
        yield "distinct values are counted in total alone: leave dimension_sets out"
    if has_groups and metric.property_name is not None:
        yield "a metric of one property has no dimensions: leave dimension_sets out"
    if metric.kind.value == "quantile" and any("event_type" in one for one in sets):
        yield "quantiles cannot be grouped by event_type: leave it out, or declare a metric for each type"
    if metric.name_by_dimension and (len(sets) != 2 or sets[0] != () or len(sets[1]) != 1):
        yield 'it is named by a dimension, so it must have the total and that one: write ((), ("event_type",))'


def _aggregations(metric: "Metric") -> Iterator[str]:
    if not metric.aggregations:
        yield "it has no aggregations: name at least one, the default first"
    for one in _twice(metric.aggregations):
        yield f"its aggregations name {one} twice: once is enough"
    kept, why = _kept(metric)
    for aggregation in dict.fromkeys(metric.aggregations):
        if aggregation.value not in kept:
            yield f"{aggregation.value} cannot be had of {why}: it has {', '.join(kept)}"


def _kept(metric: "Metric") -> tuple[Sequence[str], str]:
    if metric.ratio is not None:
        return ("ratio",), "a ratio"
    if metric.value is None and metric.property_name is None:
        return _COUNTED, "a metric without a value"
    return kept_by(metric.kind), f"the kind {metric.kind.value}"


def kept_by(kind: "Kind") -> tuple[str, ...]:
    """The aggregations of a metric of this kind that has a value."""
    return _KEPT.get(kind.value, ())


def _of_all(metrics: Sequence["Metric"]) -> Iterator[str]:
    """What two metrics cannot both have, said at the later one."""
    names: dict[str, Metric] = {}
    ids: dict[str, Metric] = {}
    for metric in metrics:
        at = f"{metric.declared_at}: metric {metric.name!r}"
        if (other := names.setdefault(metric.name, metric)) is not metric:
            yield f"{at}: another has this name, at {other.declared_at}: rename one"
        elif (other := ids.setdefault(metric.metric_id, metric)) is not metric:
            yield f"{at}: it has the id of {other.name!r} by chance: change a letter of its name"
        for other in metrics:
            if other.name_by_dimension and metric.name.startswith(f"{other.name}."):
                yield f"{at}: names that begin with {other.name}. are those of its groups: choose another"


def _twice(found: Sequence[Any]) -> list[Any]:
    return [one for one, count in Counter(found).items() if count > 1]
