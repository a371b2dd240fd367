"""Which JSON Schemas may judge events: valid, self-contained, and quick whatever they are given.

Belongs here: judging and compiling a schema before it is used. Does not belong here: judging events (`definitions`).

A valid schema can still stop a process: references that double at each step take 2^n evaluations, a circle of
references takes as many to explain a refusal, and a pattern that is small on paper can be large when compiled. So
circles are refused, and the time that the worst event would take is estimated from what was measured: 14 µs for a
keyword on 1 KiB of values, and 200 µs more for each KiB of a compiled pattern.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import unquote

import jsonschema_rs

from analytics_pipeline.errors import ConfigurationError

Schema = Mapping[str, Any]

MAX_BYTES = 64 * 1024
MAX_DEPTH = 20
MAX_MEMBERS = 5_000
MAX_PATTERN_BYTES = 64 * 1024
"""Of a compiled pattern: `^[A-Za-z0-9_.-]{1,255}$` takes about 32 KiB."""
MAX_MILLIS = 500.0
"""Estimated, for 50 properties of 1 KiB each, at the worst."""

_KEYWORD_MILLIS = 0.014
_PATTERN_MILLIS = 0.2
_PROPERTIES = 50
_LONGEST_CHAIN = 50
_NEWEST = "https://json-schema.org/draft/2020-12/schema"
_DRAFTS = {
    _NEWEST,
    "https://json-schema.org/draft/2019-09/schema",
    *(f"http://json-schema.org/draft-0{number}/schema" for number in (4, 6, 7)),
}

_ONE = frozenset({
    "additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not",
    "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
})  # fmt: skip
_MANY = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_NAMED = frozenset({"dependencies", "dependentSchemas", "patternProperties", "properties"})
_SHELVES = frozenset({"$defs", "definitions"})
_IN_PLACE = frozenset(
    {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependencies", "dependentSchemas"}
)
_DYNAMIC = ("$dynamicRef", "$recursiveRef")
_SAYS_NOTHING = frozenset({
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$schema", "$vocabulary", "default", "definitions",
    "deprecated", "description", "examples", "format", "readOnly", "title", "writeOnly",
})  # fmt: skip
KEYWORDS = frozenset({
    *_ONE, *_MANY, *_NAMED, *_SHELVES, *_DYNAMIC, *_SAYS_NOTHING, "$recursiveAnchor", "$ref", "const",
    "contentEncoding", "contentMediaType", "dependentRequired", "enum", "exclusiveMaximum", "exclusiveMinimum", "id",
    "maxContains", "maximum", "maxItems", "maxLength", "maxProperties", "minContains", "minimum", "minItems",
    "minLength", "minProperties", "multipleOf", "pattern", "required", "type", "uniqueItems",
})  # fmt: skip
"""Of all drafts that are read."""


class UnusableSchema(ConfigurationError):
    """The schema may not be used; the text is a sentence that says where and why, and never repeats a value."""

    def __init__(self, sentence: str, where: str = "") -> None:
        super().__init__(f"at {where[:200]}: {sentence}" if where else sentence)


def read_schema(text: str | bytes) -> dict[str, Any]:
    """Parse the text of a schema.

    Raises:
        UnusableSchema: it is too long or no JSON object.
    """
    if len(text) > MAX_BYTES:
        raise UnusableSchema(f"is longer than {MAX_BYTES} bytes")
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise UnusableSchema("is not JSON") from None
    if not isinstance(schema, dict):
        raise UnusableSchema("must be a JSON Schema, written as an object")
    return schema


def check_schema(schema: object) -> dict[str, Any]:
    """Judge a parsed schema, and give it back.

    Raises:
        UnusableSchema: it is no valid schema, reaches out, is too large, or could take too long.
    """
    if not isinstance(schema, dict):
        raise UnusableSchema("must be a JSON Schema, written as an object")
    _check_size(schema)
    if str(schema.get("$schema", _NEWEST)).rstrip("#") not in _DRAFTS:
        raise UnusableSchema("must be a draft from 4 to 2020-12, whose names begin with http", "#/$schema")
    try:
        jsonschema_rs.meta.validate(schema)
        millis = _Work(schema).of_event()
        compile_schema(schema)
    except jsonschema_rs.ValidationError as error:
        raise UnusableSchema(_sentence(error), "/".join(["#", *map(str, error.instance_path)])) from None
    except UnusableSchema:
        raise
    except (ValueError, TypeError, RecursionError, jsonschema_rs.ReferencingError):
        raise UnusableSchema("is not a JSON Schema that can be used") from None
    if millis > MAX_MILLIS:
        raise UnusableSchema(
            f"an event could take {min(millis, 1e9):.0f} ms to judge, at most {MAX_MILLIS:.0f} are allowed: use fewer "
            "alternatives, references or large patterns"
        )
    return schema


def compile_schema(schema: Schema) -> Any:
    """A validator of `jsonschema_rs`; `format` says nothing, as JSON Schema 2020-12 has it by default."""
    return jsonschema_rs.validator_for(
        dict(schema),
        offline=True,
        validate_formats=False,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES, dfa_size_limit=1 << 21),
    )


def subschemas(schema: Schema) -> Iterator[tuple[str, str | None, Any]]:
    """(keyword, name, number or None, subschema) of one schema, those on the shelf of definitions included."""
    for keyword, value in schema.items():
        if keyword in _ONE and isinstance(value, dict | bool):
            yield keyword, None, value
        elif keyword in _MANY and isinstance(value, list):
            yield from ((keyword, str(number), below) for number, below in enumerate(value))
        elif (keyword in _NAMED or keyword in _SHELVES) and isinstance(value, dict):
            yield from (
                (keyword, name, below) for name, below in value.items() if isinstance(below, dict | bool)
            )


def step_to(keyword: str, name: str | None) -> str:
    """How a JSON pointer goes on to what `subschemas` gives."""
    return f"/{keyword}" if name is None else f"/{keyword}/" + name.replace("~", "~0").replace("/", "~1")


class _Work:
    """How long the worst event takes: references followed, each subschema counted as often as it is applied."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._known: dict[int, Schema] = {}
        self._costs: dict[int, float] = {}
        self._object_costs: dict[int, float] = {}
        self._open: set[int] = set()
        self._enlist(root, "#")

    def of_event(self) -> float:
        """Milliseconds for the properties of one event."""
        for schema in self._known.values():
            self._of_value(schema, 0)
        return self._of_object(self._root, 0)

    def _enlist(self, schema: Any, where: str) -> None:
        if isinstance(schema, bool):
            return
        self._known[id(schema)] = schema
        for keyword in _DYNAMIC:
            if keyword in schema:
                raise UnusableSchema(f"{keyword} is not read: use $ref with #/$defs/…", where)
        if "$id" in schema and schema is not self._root:
            raise UnusableSchema("only the whole schema may have an $id", where)
        for keyword, name, below in subschemas(schema):
            self._enlist(below, where + step_to(keyword, name))

    def _of_object(self, schema: Any, depth: int) -> float:
        """The object of all properties: a named property is one of them, everything else meets them all."""
        if isinstance(schema, bool):
            return _KEYWORD_MILLIS
        if id(schema) in self._object_costs:
            return self._object_costs[id(schema)]
        total = _own(schema, _PROPERTIES)
        for keyword, _, below in self._below(schema):
            if keyword == "$ref" or keyword in _IN_PLACE:
                total += self._of_object(below, depth + 1)
            else:
                total += (1 if keyword == "properties" else _PROPERTIES) * self._of_value(below, depth + 1)
        self._object_costs[id(schema)] = min(total, 1e12)
        return self._object_costs[id(schema)]

    def _of_value(self, schema: Any, depth: int) -> float:
        """One value of 1 KiB, with all that is in it."""
        if isinstance(schema, bool):
            return _KEYWORD_MILLIS
        if id(schema) in self._costs:
            return self._costs[id(schema)]
        if id(schema) in self._open or depth > _LONGEST_CHAIN:
            raise UnusableSchema(
                "references form a circle, or a chain of more than 50: a schema of properties may not contain itself"
            )
        self._open.add(id(schema))
        total = _own(schema, 1) + sum(self._of_value(below, depth + 1) for _, _, below in self._below(schema))
        self._open.discard(id(schema))
        self._costs[id(schema)] = min(total, 1e12)
        return self._costs[id(schema)]

    def _below(self, schema: Schema) -> Iterator[tuple[str, str | None, Any]]:
        for keyword, name, below in subschemas(schema):
            if keyword not in _SHELVES:
                yield keyword, name, below
        if "$ref" in schema:
            yield "$ref", None, self._target(schema["$ref"])

    def _target(self, reference: str) -> Any:
        if reference != "#" and not reference.startswith("#/"):
            raise UnusableSchema("references may only lead inside the schema: $ref must begin with #/")
        target: Any = self._root
        for step in unquote(reference[1:]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(step)] if isinstance(target, list) else target[step]
            except (LookupError, TypeError, ValueError):
                raise UnusableSchema("a reference leads to nothing") from None
        if not isinstance(target, bool) and id(target) not in self._known:
            raise UnusableSchema("references may only lead to a schema, such as those under $defs")
        return target


def _sentence(error: jsonschema_rs.ValidationError) -> str:
    if error.kind.name == "format":
        return (
            "is not a pattern that can be matched in linear time: look-around, back-references and patterns of "
            f"more than {MAX_PATTERN_BYTES // 1024} KiB when compiled are not read"
        )
    return "is not a value that JSON Schema allows there"


def _own(schema: Schema, kib: int) -> float:
    """Milliseconds of the keywords of a schema itself: its patterns meet that many KiB of values."""
    patterns = [schema["pattern"]] if "pattern" in schema else []
    patterns += schema.get("patternProperties", {})
    keywords = sum(keyword not in _SAYS_NOTHING for keyword in schema)
    return keywords * _KEYWORD_MILLIS + kib * _PATTERN_MILLIS * sum(map(_compiled_kib, patterns))


@lru_cache(maxsize=1024)
def _compiled_kib(pattern: str) -> int:
    """The size of a compiled pattern, to a power of two."""
    for kib in (1, 2, 4, 8, 16, 32):
        options = jsonschema_rs.RegexOptions(size_limit=kib * 1024)
        try:
            jsonschema_rs.validator_for({"pattern": pattern}, offline=True, pattern_options=options)
        except jsonschema_rs.ValidationError:
            continue
        return kib
    return MAX_PATTERN_BYTES // 1024


def _check_size(schema: Schema) -> None:
    """Without recursion, so that no depth is too much.

    Raises:
        UnusableSchema: too long, wide or deep, or holds what Postgres cannot store.
    """
    members, waiting = 0, [(1, iter(_members(schema)))]
    while waiting:
        depth, found = waiting[-1]
        following = next(found, None)
        if following is None:
            waiting.pop()
            continue
        key, value = following
        members += 1
        if members > MAX_MEMBERS:
            raise UnusableSchema(f"has more than {MAX_MEMBERS} members")
        if "\0" in key or (isinstance(value, str) and "\0" in value):
            raise UnusableSchema("has a NUL character")
        if isinstance(value, dict | list):
            if depth >= MAX_DEPTH and value:
                raise UnusableSchema(f"is nested deeper than {MAX_DEPTH} levels")
            waiting.append((depth + 1, iter(_members(value))))
    try:
        size = len(json.dumps(schema, allow_nan=False, ensure_ascii=False).encode())
    except (ValueError, TypeError):
        raise UnusableSchema("cannot be written as JSON") from None
    if size > MAX_BYTES:
        raise UnusableSchema(f"is longer than {MAX_BYTES} bytes")


def _members(node: Mapping[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    return iter(node.items()) if isinstance(node, Mapping) else (("", value) for value in node)


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")
