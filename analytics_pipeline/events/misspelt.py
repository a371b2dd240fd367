"""Keywords of a JSON Schema that look like typing errors: legal, and without any effect.

Belongs here: finding them. Does not belong here: whether a schema may be used at all (`json_schema`).
"""

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice

from analytics_pipeline.events.json_schema import KEYWORDS, Schema, read_schema, step_to, subschemas

_MOST = 20
_MOST_COMPARED = 200
"""Each takes 0.1 ms."""
_LONGEST_NAME = 32
_LONGEST_PLACE = 200
_NEAR = 0.8
_BY_LOWER_CASE = {keyword.lower(): keyword for keyword in KEYWORDS}


def misspelt_keywords(schema: Schema | str) -> list[str]:
    """A sentence for each unknown keyword that is near one of JSON Schema, at most 20.

    Args:
        schema: one that `check_schema` let pass, or its text. Names of properties and values are not looked at.
    """
    unknown = _unknown(read_schema(schema) if isinstance(schema, str) else schema, "#")
    found = ((where, name, _near(name)) for where, name in islice(unknown, _MOST_COMPARED))
    sentences = (
        f"at {where[:_LONGEST_PLACE]}: {name} is no keyword of JSON Schema and has no effect; did you mean {near}?"
        for where, name, near in found
        if near is not None
    )
    return list(islice(sentences, _MOST))


def _unknown(schema: Schema, where: str) -> Iterator[tuple[str, str]]:
    """(place, name) of what may be meant as a keyword; names with `x-` are extensions."""
    for name in schema:
        if name not in KEYWORDS and len(name) <= _LONGEST_NAME and not name.startswith("x-"):
            yield where, name
    for keyword, step, below in subschemas(schema):
        if not isinstance(below, bool):
            yield from _unknown(below, where + step_to(keyword, step))


def _near(name: str) -> str | None:
    near = get_close_matches(name.lower(), _BY_LOWER_CASE, n=1, cutoff=_NEAR)
    return _BY_LOWER_CASE[near[0]] if near else None
