"""Automatic metrics: one for each numeric property of a custom event definition.

Belongs here: which metrics follow from JSON Schemas, and their names. Does not belong here: computing them
(`property_sums`), loading definitions (`storage.definitions`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from analytics_pipeline.rollups.catalog import BUILT_IN, Aggregation, Catalog, Metric

PREFIX = "custom"
MOST_AUTOMATIC = 500
"""Each costs a delta in every batch that has such events, and five rows a minute at most: so many that all of them
together cost a landing less than its own events do, and more than anybody looks at."""

_LONGEST_PROPERTY = 255
"""Name and event type together fit into the key of an index."""
_NUMBERS = frozenset({"number", "integer"})


class MetricChanges(NamedTuple):
    """Names of the automatic metrics that come and go with a change of a definition."""

    added: list[str]
    removed: list[str]


def metric_changes(event_type: str, before: Any, after: Any) -> MetricChanges:
    """What another JSON Schema does to the metrics of its event type, as far as there is room for more.

    Args:
        event_type: the name of the definition.
        before: its schema; None where it had none, or is not active.
        after: the same, after the change.
    """
    old, new = (_metric_names(event_type, schema) for schema in (before, after))
    return MetricChanges([name for name in new if name not in old], [name for name in old if name not in new])


def with_automatic(schemas: Mapping[str, Any]) -> tuple[Catalog, list[str]]:
    """The built-in catalog and the metrics that follow from active definitions.

    Args:
        schemas: JSON Schema by event type, oldest definition first: where there are too many, the newest get none.

    Returns:
        The catalog, and a sentence for each definition with a numeric property that has no metric.
    """
    found: list[Metric] = []
    problems = []
    for event_type, schema in schemas.items():
        wanted = list(_numeric_properties(schema))
        named = [name for name in wanted if _is_nameable(name)]
        room = MOST_AUTOMATIC - len(found)
        found += [_metric(event_type, name) for name in named[:room]]
        if len(named) < len(wanted):
            problems.append(
                f"the definition {event_type} has numeric properties without a metric: their names have a dot, a "
                f"control character, or more than {_LONGEST_PROPERTY} characters"
            )
        if len(named) > room:
            problems.append(
                f"the definition {event_type} has {len(named) - room} numeric properties without a metric: there are "
                f"{MOST_AUTOMATIC} already; deactivate definitions that are not needed any more"
            )
    return (Catalog((*BUILT_IN.metrics, *found)) if found else BUILT_IN), problems


def _metric_names(event_type: str, schema: Any) -> list[str]:
    return [_metric_name(event_type, name) for name in _numeric_properties(schema) if _is_nameable(name)]


def _metric_name(event_type: str, name: str) -> str:
    return f"{PREFIX}.{event_type}.{name}"


def _metric(event_type: str, name: str) -> Metric:
    return Metric(
        name=_metric_name(event_type, name),
        description=f"{name} of the custom event {_in_one_line(event_type)}.",
        unit="1",
        event_types=(event_type,),
        property_name=name,
        aggregations=(
            Aggregation.AVG,
            Aggregation.COUNT,
            Aggregation.SUM,
            Aggregation.MIN,
            Aggregation.MAX,
        ),
    )


def _numeric_properties(schema: Any) -> Iterator[str]:
    """Names of top-level properties whose `type` is a number, or a number or null."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    for name, below in properties.items() if isinstance(properties, Mapping) else ():
        types = below.get("type") if isinstance(below, Mapping) else None
        known = {types} if isinstance(types, str) else set(types or ())
        if known & _NUMBERS and known <= _NUMBERS | {"null"}:
            yield name


def _in_one_line(event_type: str) -> str:
    """A type may have signs that no line can show, such as a zero-width space or one of a private area."""
    return event_type if event_type.isprintable() else ascii(event_type)


def _is_nameable(name: str) -> bool:
    """Whether `<type>.<property>` is the name of this property alone: types have dots, so properties must not."""
    return 0 < len(name) <= _LONGEST_PROPERTY and "." not in name and name.isprintable()
