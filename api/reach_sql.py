"""A part of the events as a condition of SQL, and its parameters.

Belongs here: conditions on raw events and on series. Does not belong here: what a part is
(`analytics_pipeline.events.reach`), the statements they are added to.
"""

from typing import Any

import orjson
from psycopg.sql import SQL, Composable, Placeholder

from analytics_pipeline.events.reach import Reach

_TYPES = SQL("({column} = ANY(%(reach_names)s::text []) OR {column} ^@ ANY(%(reach_prefixes)s::text []))")
_VALUES = SQL("{column} -> {name}::text = ANY({values}::jsonb [])")

Conditions = tuple[list[Composable], dict[str, Any]]
"""All of them must hold."""


def events_in(reach: Reach, *, has_type: bool) -> Conditions:
    """Of rows of `events`; without types where others have seen to them."""
    return _conditions(reach, SQL("event_type"), SQL("properties"), has_type=has_type)


def series_in(reach: Reach, dimension_set: str) -> Conditions:
    """Of rows with `dimensions` of this set; types only where rows tell theirs."""
    has_type = "event_type" in dimension_set.split(",")
    return _conditions(reach, SQL("(dimensions ->> 'event_type')"), SQL("dimensions"), has_type=has_type)


def _conditions(reach: Reach, event_type: SQL, properties: SQL, *, has_type: bool) -> Conditions:
    parts: list[Composable] = []
    parameters: dict[str, Any] = {}
    if reach.event_types is not None and has_type:
        parts.append(_TYPES.format(column=event_type))
        parameters |= {"reach_names": list(reach.names), "reach_prefixes": list(reach.prefixes)}
    for position, (name, values) in enumerate(reach.dimensions):
        place, given = f"reach_name_{position}", f"reach_values_{position}"
        parts.append(_VALUES.format(column=properties, name=Placeholder(place), values=Placeholder(given)))
        # As JSON, so that the number 1 is not the text "1".
        parameters |= {place: name, given: [orjson.dumps(value).decode() for value in values]}
    return parts, parameters
