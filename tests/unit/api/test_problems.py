"""docs/problems.md lists every type of problem that the code can answer, with status and fields, and no other."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from api import errors
from api.errors import HttpProblem, Problem

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "problems.md").read_text()
CLASSES = {
    name: one for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Problem)
}
OF_HTTP = {("no-such-path", "404"), ("method-not-allowed", "405"), ("http-error", "any other")}
"""What Starlette refuses, named in `api.app` by status."""


def calls() -> Iterator[ast.Call]:
    """Problems made anywhere but in the examples of the OpenAPI document."""
    for path in sorted((ROOT / "api").rglob("*.py")):
        if path.name == "documentation.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES:
                yield node


def known() -> dict[tuple[str, str], set[str]]:
    """Fields of each (kind, status)."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in CLASSES.values():
        if one is not HttpProblem:
            found[one.kind, str(one.status)] |= set()
    for call in calls():
        made = CLASSES[call.func.id]  # type: ignore[attr-defined]
        given = {word.arg: word.value for word in call.keywords}
        if made is HttpProblem:
            status, kind = call.args[:2]
            if not isinstance(kind, ast.Constant):
                assert {name for name, _ in OF_HTTP} <= set(re.findall(r'"([a-z-]+)"', APP))
                found |= {place: set() for place in OF_HTTP}
                continue
            place = (str(kind.value), str(status.value))  # type: ignore[attr-defined]
        else:
            kind = given.get("kind", ast.Constant(made.kind))
            assert isinstance(kind, ast.Constant), "a kind is written where its problem is made"
            place = (str(kind.value), str(made.status))
        extra = given.get("extra")
        if isinstance(extra, ast.IfExp):
            extra = extra.body
        found[place] |= {str(key.value) for key in extra.keys} if isinstance(extra, ast.Dict) else set()  # type: ignore[union-attr]
    return found


APP = (ROOT / "api" / "app.py").read_text()


def described() -> dict[tuple[str, str], set[str]]:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| [^|]+ \|(.*)\|$", PAGE, re.MULTILINE)
    return {(kind, status.strip()): set(re.findall(r"`(\w+)`", fields)) for kind, status, fields in rows}


def test_every_type_is_on_the_page_and_nothing_else() -> None:
    assert described().keys() == known().keys()
    kinds = [kind for kind, _ in described()]
    assert len(kinds) == len(set(kinds)), "a type has one status"


def test_fields_beside_the_usual_ones_are_on_the_page() -> None:
    page = described()
    missing = {place: fields - page[place] for place, fields in known().items() if fields - page[place]}
    assert missing == {}


def test_the_example_is_an_answer() -> None:
    [example] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    problem = errors.invalid_parameter("limit", "must be a whole number from 1 to 10000")
    assert re.sub(r"\s+", "", problem.body("8f14e45fceea-2a").decode()) == re.sub(r"\s+", "", example)


def test_the_originals_error_stands_beside_every_title() -> None:
    for one in CLASSES.values():
        made = one(418, "a-b", "T", "D") if one is HttpProblem else one("D")  # type: ignore[arg-type, call-arg]
        body = made.body("r").decode()
        assert f'"error":"{made.title}"' in body
        assert f'"title":"{made.title}"' in body
