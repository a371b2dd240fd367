"""Whether an expression can be the value of a metric: DuckDB is asked, no event is read.

Belongs here: what is wrong with the text of one expression. Does not belong here: the other rules of a declaration
(`declarations`), and what expressions are of events (`values`).
"""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

PLAIN = re.compile(r"[a-z_]+( [-+*] [a-z_]+)*")
"""Sums and products of fields need no DuckDB, which costs milliseconds a batch, and which some processes never load."""

_NUMERIC = re.compile(
    r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)|FLOAT|DOUBLE|DECIMAL\(\d+,\d+\)"
)  # as DESCRIBE names types
_ALLOWED = {
    "COLUMN_REF",
    "CONSTANT",
    "FUNCTION",
    "OPERATOR",
    "CASE",
    "CAST",
    "COMPARISON",
    "CONJUNCTION",
    "BETWEEN",
}
_REFUSED = {
    "SUBQUERY": "asks a query of its own",
    "WINDOW": "uses a window function",
    "STAR": "uses *",
    "PARAMETER": "has a parameter",
}
_MACROS = {"nullif", "ifnull", "if"}
"""Those that stand for a CASE and nothing else."""
_UNSTABLE = {"age", "hash"}
"""One reads the clock where it is given one time, the other is of a release of DuckDB; DuckDB calls both consistent."""

_MOST_TRIED_TOGETHER = 5
"""Columns of which every combination of hard values is tried."""

_HARD_NUMBERS = (0.0, -1.0, 1.7e308, None, 1.0, 0.5, 5e-324, -1e18, 2.0**63, -1.7e308)
_HARD_TEXTS = ("", "x", None, "12", "-1e400", "2026-02-30")
"""Hardest first."""


@lru_cache(maxsize=256)
def faults(expression: str, texts: tuple[str, ...], numbers: tuple[str, ...]) -> tuple[str, ...]:
    """What keeps an expression from being the value of a metric: parts of sentences, none where it can be.

    Args:
        expression: DuckDB SQL over the columns of an event.
        texts: its columns that hold text.
        numbers: its columns that hold a number (float64).
    """
    if PLAIN.fullmatch(expression) and set(re.findall(r"[a-z_]+", expression)) <= set(numbers):
        return ()
    return tuple(_faults(expression, texts, numbers))


def _faults(expression: str, texts: Sequence[str], numbers: Sequence[str]) -> Iterator[str]:
    import duckdb

    if any(sign in expression for sign in ("--", "/*", ";")):
        yield "its value has a comment or a semicolon: write one plain expression"
        return
    with duckdb.connect(config={"threads": 1}) as db:
        try:
            tree = _parsed(db, expression)
        except ValueError as error:
            yield f"its value {expression!r} is no SQL expression ({error}): mend it"
            return
        found = list(_nodes(tree))
        columns = dict.fromkeys(
            ".".join(one["column_names"]) for one in found if one["class"] == "COLUMN_REF"
        )
        kinds = _functions(db, {one["function_name"].lower() for one in found if "function_name" in one})
        broken = [
            *(_unknown(name, texts, numbers) for name in columns if name not in {*texts, *numbers}),
            *(told for one in found if (told := _refused(one, kinds)) is not None),
        ]
        if not broken and not columns:
            broken.append(f"its value {expression!r} names no column: leave value out, to count events")
        if broken:
            yield from dict.fromkeys(broken)
            return
        yield from _tried(
            db,
            expression,
            [name for name in texts if name in columns],
            [name for name in numbers if name in columns],
        )


def _parsed(db: Any, expression: str) -> Any:
    """The tree of the expression alone, which must be the same in brackets and without."""
    for text in (f"SELECT {expression}", f"SELECT ({expression})"):
        answer = json.loads(db.execute("SELECT json_serialize_sql(?)", [text]).fetchone()[0])
        if answer["error"]:
            raise ValueError(answer["error_message"])
    [statement] = answer["statements"]
    return statement["node"]["select_list"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, list):
        for one in tree:
            yield from _nodes(one)
    elif isinstance(tree, dict):
        if "class" in tree and tree["class"] != "TYPE":
            yield tree
        for name, one in tree.items():
            if name != "type_expr":
                yield from _nodes(one)


def _functions(db: Any, names: set[str]) -> dict[str, set[tuple[str, str | None]]]:
    """Kind and stability of each function, of all its forms."""
    found: dict[str, set[tuple[str, str | None]]] = {name: set() for name in names}
    rows = db.execute(
        "SELECT DISTINCT function_name, function_type, stability FROM duckdb_functions() "
        "WHERE list_contains(?, function_name)",
        [sorted(names)],
    ).fetchall()
    for name, kind, stability in rows:
        found[name].add((kind, stability))
    return found


def _refused(node: dict[str, Any], kinds: dict[str, set[tuple[str, str | None]]]) -> str | None:
    if node["class"] not in _ALLOWED:
        what = _REFUSED.get(node["class"], f"uses {node['class'].lower().replace('_', ' ')}")
        return f"its value {what}: it may use only the columns of one event"
    if node["class"] != "FUNCTION":
        return None
    name = node["function_name"].lower()
    types = {kind for kind, _ in kinds[name]}
    if "aggregate" in types:
        return f"its value uses {name}, which aggregates: a value is of one event, list aggregations instead"
    if not types & {"scalar", "macro"}:
        return f"its value uses {name}, which is no function of DuckDB: mend its name"
    if "macro" in types and name not in _MACROS:
        return f"its value uses {name}, a macro of DuckDB: write out what it stands for"
    is_changing = any(kind == "scalar" and stability != "CONSISTENT" for kind, stability in kinds[name])
    if is_changing or name in _UNSTABLE or not node["arguments"]:
        return f"its value uses {name}, which depends on more than the event: a recompute would give other numbers"
    return None


def _unknown(name: str, texts: Sequence[str], numbers: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [*numbers, *texts], n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join((*numbers, *texts))}"
    return (
        f"its value names {name}, which is no column of events: {hint}; "
        "a property has to be named in NUMBER_FIELDS or TEXT_FIELDS first"
    )


def _tried(db: Any, expression: str, texts: Sequence[str], numbers: Sequence[str]) -> Iterator[str]:
    """Its type, and whether it fails on what events may hold."""
    import duckdb

    names = [*texts, *numbers]
    is_wide = len(names) > _MOST_TRIED_TOGETHER
    for name in names:
        kind, values = ("VARCHAR", _HARD_TEXTS) if name in texts else ("DOUBLE", _HARD_NUMBERS)
        db.execute(f"CREATE TABLE of_{name} ({name} {kind})")
        db.executemany(
            f"INSERT INTO of_{name} VALUES (?)", [[one] for one in values[: 4 if is_wide else None]]
        )
    facts = " CROSS JOIN ".join(f"of_{name}" for name in names)
    try:
        [(_, found, *_)] = db.execute(f"DESCRIBE SELECT ({expression}) AS v FROM {facts}").fetchall()
    except duckdb.Error as error:
        yield f"its value {expression!r} fits no types of columns ({_reason(error)}): mend it"
        return
    if not _NUMERIC.fullmatch(found):
        yield f"its value {expression!r} is {_named(found)}, not a number: only distinct values may be text"
        return
    try:
        db.execute(f"SELECT ({expression}) FROM {facts}").fetchall()
    except duckdb.Error:
        case, reason = _failing(db, expression, names, facts)
        yield (
            f"its value {expression!r} fails where {case} ({reason}), and would stop the events beside it: "
            f"write TRY({expression}), so that such an event is skipped"
        )


def _failing(db: Any, expression: str, names: Sequence[str], facts: str) -> tuple[str, str]:
    """The first values on which it fails, and why."""
    import duckdb

    columns = ", ".join(names)
    candidates = db.execute(f"SELECT {columns} FROM {facts} WHERE TRY({expression}) IS NULL").fetchall()
    [kinds] = db.execute(
        f"SELECT {', '.join(f'typeof({name})' for name in names)} FROM {facts} LIMIT 1"
    ).fetchall()
    one = ", ".join(f"?::{kind} AS {name}" for name, kind in zip(names, kinds, strict=True))
    for row in candidates:
        try:
            db.execute(f"SELECT ({expression}) FROM (SELECT {one})", row).fetchall()
        except duckdb.Error as error:
            case = ", ".join(f"{name} = {_written(value)}" for name, value in zip(names, row, strict=True))
            return case, _reason(error)
    return "some values meet", "DuckDB does not say why"


def _written(value: str | float | None) -> str:
    return "null" if value is None else repr(value)


def _reason(error: Exception) -> str:
    """DuckDB's words without its advice."""
    return str(error).splitlines()[0].partition(": ")[2].split(". ")[0].rstrip(".")


def _named(duckdb_type: str) -> str:
    return {"VARCHAR": "text", "BOOLEAN": "true or false", '"NULL"': "always null"}.get(
        duckdb_type, duckdb_type
    )
