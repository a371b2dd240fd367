"""`POST /api/v1/dashboard/query`: what a body asks for, and all of it answered from one snapshot.

Belongs here: reading the body, and putting answers together. Does not belong here: what a metric or the dashboard is
asked and answers (`metrics`, `dashboard.endpoints`); a query is read as if its fields stood in an address.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson

from analytics_pipeline.events.reach import Reach
from api.cache import Answer, Question
from api.dashboard.schemas import DashboardAnswer
from api.database import Database, Reader
from api.errors import BadRequest, Forbidden, Problem
from api.snapshot import Snapshot, snapshot

MOST_QUERIES = 50
MOST_BYTES = 8 * 1024 * 1024
"""Of the answers of one call together; the answer that goes beyond is the last."""

TILES = tuple(DashboardAnswer.model_fields)
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_FIELDS = frozenset({"queries", "after"})

_TITLE = "Invalid query"
Build = Callable[[bytes], Question]
"""From a query string to the question that it means; raises `Problem`."""


class Asked(NamedTuple):
    """One query of a call.

    Attributes:
        id: by which its answer is known.
        query_string: the fields of a metric, as they would stand in an address; None where tiles are asked for.
        tiles: fields of the dashboard.
        problem: why it is refused whatever else is there.
    """

    id: str
    query_string: bytes | None = None
    tiles: tuple[str, ...] = ()
    problem: Problem | None = None


class Body(NamedTuple):
    """A whole call; `after` as a query string that says the same."""

    queries: tuple[Asked, ...]
    after: bytes


def read_body(content: bytes, names: Collection[str]) -> Body:
    """Understand a body.

    Args:
        content: JSON text.
        names: the parameters of metrics.

    Raises:
        BadRequest: it is no list of queries at all. What is wrong in one query is its own `problem`.
    """
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise _bad("The body is not JSON.") from None
    if not isinstance(body, dict) or not isinstance(body.get("queries"), list):
        raise _bad("The body must be a JSON object with queries, a list.")
    if not body.keys() <= _FIELDS:
        raise _bad(f"The body has fields other than {', '.join(sorted(_FIELDS))}.")
    after = body.get("after")
    if after is not None and not isinstance(after, str):
        raise _bad("after: must be text.")
    queries = body["queries"]
    if not 1 <= len(queries) <= MOST_QUERIES:
        raise _bad(f"queries: must be 1 to {MOST_QUERIES}.")
    found = tuple(_asked(str(place), one, names) for place, one in enumerate(queries))
    if len({one.id for one in found}) < len(found):
        raise _bad("queries: two have the same id, or one has the place of another as its id.")
    return Body(found, _encoded([("after", after)] if after else []))


def _asked(place: str, query: object, names: Collection[str]) -> Asked:
    if not isinstance(query, dict):
        return Asked(place, problem=_bad("A query must be a JSON object."))
    fields = dict(query)
    identity = fields.pop("id", place)
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        raise _bad("id: must be 1 to 64 of the letters A-Z, a-z, digits, and . _ : -")
    try:
        if "tiles" in fields:
            return Asked(identity, tiles=_tiles(fields))
        return Asked(identity, query_string=_query_string(fields, names))
    except BadRequest as problem:
        return Asked(identity, problem=problem)


def _tiles(fields: Mapping[str, Any]) -> tuple[str, ...]:
    tiles = fields["tiles"]
    if len(fields) > 1:
        raise _bad("tiles: goes with id alone; metrics are queries of their own.")
    if not isinstance(tiles, list) or not tiles or not all(one in TILES for one in tiles):
        raise _bad(f"tiles: must be a list of {', '.join(TILES)}.")
    return tuple(dict.fromkeys(tiles))


def _query_string(fields: Mapping[str, Any], names: Collection[str]) -> bytes:
    if not fields.keys() <= set(names):
        raise _bad(f"A query has fields other than id, and tiles or {', '.join(names)}.")
    pairs = []
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            if one is None:
                continue
            if isinstance(one, bool) or not isinstance(one, str | int):
                raise _bad(f"{name}: must be text or a whole number, or a list of these.")
            pairs.append((name, str(one)))
    return _encoded(pairs)


def _encoded(pairs: list[tuple[str, str]]) -> bytes:
    return urlencode(pairs).encode()


@dataclass(frozen=True, slots=True)
class _Part:
    """A query, and the question or the problem that it is."""

    asked: Asked
    question: Question | None
    problem: Problem | None

    @property
    def canonical(self) -> str:
        """One text for every way to ask the same."""
        what = (
            self.question.canonical if self.question else orjson.dumps(self.problem and self.problem.content)
        )
        return f"{self.asked.id}\n{','.join(self.asked.tiles)}\n{what!r}"


def question_of(
    queries: Collection[Asked],
    reach: Reach,
    *,
    metric: Build,
    dashboard: Build,
    database: Database,
    seconds: float,
) -> Question:
    """The cacheable question that a call is, for who sees only `reach`.

    Args:
        queries: all of them.
        reach: what may be seen.
        metric: understands the fields of a metric.
        dashboard: understands nothing, as the dashboard.
        database: where the snapshot is taken.
        seconds: the longest time that reading may take.
    """
    parts = [_part(one, reach, metric, dashboard) for one in queries]
    questions = [part.question for part in parts if part.question is not None]

    async def ask(_reader: Reader) -> Answer:
        async with snapshot(database, "dashboard_query", seconds=seconds) as reader:
            return await _answer(reader, parts)

    return Question(
        "\n\n".join(("dashboard/query", *(part.canonical for part in parts))),
        min((one.first_day for one in questions), default=date.max),
        max((one.last_day for one in questions), default=date.min),
        ask,
        any(one.is_moving for one in questions),
    )


def _part(asked: Asked, reach: Reach, metric: Build, dashboard: Build) -> _Part:
    try:
        if asked.problem is not None:
            raise asked.problem
        if asked.query_string is not None:
            return _Part(asked, metric(asked.query_string), None)
        if not reach.is_everything:
            raise Forbidden(
                "Tiles are about all events, and the key sees only a part of them; ask for metrics instead."
            )
        return _Part(asked, dashboard(b""), None)
    except Problem as problem:
        return _Part(asked, None, problem)


async def _answer(reader: Snapshot, parts: Collection[_Part]) -> Answer:
    found: list[tuple[_Part, int, Answer]] = []
    tiles: dict[str, Any] = {}
    for part in parts:
        try:
            if sum(len(answer.fresh) for _, _, answer in found) > MOST_BYTES:
                raise BadRequest(
                    f"The answers before have more than {MOST_BYTES:,} bytes together, the most that a call may have; "
                    "ask for this in a call of its own.",
                    kind="too-much-at-once",
                    title=_TITLE,
                )
            if part.question is None:
                assert part.problem is not None
                raise part.problem
            if not part.asked.tiles:
                found.append((part, 200, await part.question.ask(reader)))
                continue
            tiles = tiles or orjson.loads((await part.question.ask(reader)).fresh)
            found.append((part, 200, _always({name: tiles[name] for name in part.asked.tiles})))
        except Problem as problem:
            if reader.is_lost:
                raise
            found.append((part, problem.status, _always(problem.content)))
    return Answer(
        _together(False, [(part, status, answer.fresh) for part, status, answer in found]),
        _together(True, [(part, status, answer.hit) for part, status, answer in found]),
        is_lasting=all(status < 500 for _, status, _ in found),
    )


def _always(content: object) -> Answer:
    body = orjson.dumps(content)
    return Answer(body, body)


def _together(is_cached: bool, found: Collection[tuple[_Part, int, bytes]]) -> bytes:
    results = [
        {"id": part.asked.id, "status": status, "body": orjson.Fragment(body)} for part, status, body in found
    ]
    return orjson.dumps({"cached": is_cached, "results": results})


def _bad(sentence: str) -> BadRequest:
    return BadRequest(sentence, kind="invalid-query", title=_TITLE)
