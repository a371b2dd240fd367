"""The fuzzer's own process: throws invented messages at decode and validation until its time is over.

Belongs here: what must hold for every single message. Does not belong here: inventing them (`fuzz_inputs`), and
watching for crashes and hangs (`test_fuzz_decode`), which only somebody outside can do: before each step the input is
written where they see it.
"""

import argparse
import json
import mmap
import random
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.definitions import Definition, compile_all, compile_definition
from analytics_pipeline.events.document import read_document
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.ids import time_of_uuid7
from analytics_pipeline.events.json_schema import UnusableSchema, check_schema
from analytics_pipeline.events.judge import judge
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.events.posted import Accepted, read_posted
from tests.chaos.fuzz_inputs import Mutator, readable, schemas, written
from tests.unit.events.bad_inputs import DEFINED, NOW
from tests.unit.events.test_json_classes import NO_JSON, is_json

LIMITS = Limits()
DEFINITIONS, _ = compile_all([("defined.type", 3, DEFINED)])
MILLIS = int(NOW.timestamp() * 1000)
MOST_KEPT = 20_000
MOST_BYTES = 1 << 21
HEADER = struct.Struct("<QQQ")
"""Steps begun, whether one is running, length of its input."""


class Window:
    """Where the watcher sees what is being tried."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(HEADER.size + MOST_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._steps = 0

    def watched(self, shown: bytes, step: Callable[[], Any]) -> Any:
        """Run a step while its input can be seen."""
        self._steps += 1
        shown = shown[:MOST_BYTES]
        self._map[HEADER.size : HEADER.size + len(shown)] = shown
        self._map[: HEADER.size] = HEADER.pack(self._steps, 1, len(shown))
        try:
            return step()
        finally:
            self._map[: HEADER.size] = HEADER.pack(self._steps, 0, len(shown))


@dataclass
class Tally:
    """What was tried."""

    messages: int = 0
    accepted: int = 0
    schemas: int = 0
    judged: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    kept: list[bytes] = field(default_factory=list)


def exactly(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def expected(value: bytes) -> tuple[Any, ...] | str:
    """The verdict of the slow, complete reading."""
    try:
        document = read_document(value, LIMITS, DEFINITIONS.types)
        version = judge(document.event_type, document.parsed, DEFINITIONS, LIMITS)
    except Rejected as rejected:
        return rejected.reason.value
    at = document.timestamp
    if at is None and document.id is not None:
        at = time_of_uuid7(UUID(document.id))
    at = at or NOW
    if at < LIMITS.oldest(NOW) or at > LIMITS.latest(NOW):
        return "too_old" if at < NOW else "too_far_in_future"
    return (document.event_type, document.user_id, document.session_id, exactly(document.properties), version)


def check_messages(values: Sequence[bytes], window: Window, tally: Tally) -> None:
    """The fast path, the slow path, POST and Python's parser agree on every message, alone and in company."""
    messages = [PlainMessage(value, number, MILLIS) for number, value in enumerate(values)]
    decoded = window.watched(
        b"\n".join(values),
        lambda: decode_batches([RawBatch("t", 0, messages)], now=NOW, limits=LIMITS, definitions=DEFINITIONS),
    )
    found: dict[int, Any] = {letter.offset: letter.reason.value for letter in decoded.dead}
    for row in decoded.events.to_pylist():
        kept = exactly(row["properties"])
        found[row["source_offset"]] = (
            row["event_type"], row["user_id"], row["session_id"], kept, row["definition_version"]
        )  # fmt: skip
        tally.accepted += 1
        if len(tally.kept) < MOST_KEPT:
            tally.kept.append(row["properties"].encode())
    assert len(found) + sum(decoded.duplicates.values()) == len(values)
    posted = window.watched(b"\n".join(values), lambda: post(values))
    for number, value in enumerate(values):
        wanted = window.watched(value, lambda value=value: expected(value))
        # Of properties that come twice the fast path looks at the last alone, whatever is wrong with the first.
        is_twice = value.count(b'"properties"') > 1
        assert is_twice or found.get(number, wanted) == wanted, (value, found[number], wanted)
        outcome = wanted if isinstance(wanted, str) else "ok"
        assert is_twice or posted[number] == outcome, (value, posted[number], wanted)
        agreed = is_json(value)
        assert (outcome in NO_JSON | {"number_out_of_range"}) if agreed is False else outcome != "not_json", (
            value
        )
        tally.reasons[outcome] = tally.reasons.get(outcome, 0) + 1
    tally.messages += len(values)


def post(values: Sequence[bytes]) -> list[str]:
    """The verdicts of POST; what it stores is an event for the landing, too."""
    verdicts = read_posted(values, now=NOW, limits=LIMITS, definitions=DEFINITIONS)
    payloads = {at: one.payload for at, one in enumerate(verdicts) if isinstance(one, Accepted)}
    again = [PlainMessage(payload, at, MILLIS) for at, payload in payloads.items()]
    assert not any(b"\n" in payload for payload in payloads.values())
    landed = decode_batches([RawBatch("http", 0, again)], now=NOW, limits=LIMITS, definitions=DEFINITIONS)
    assert landed.dead == []
    for row in landed.events.to_pylist():
        assert UUID(bytes=row["id"]) == UUID(verdicts[row["source_offset"]].id)
    return ["ok" if isinstance(one, Accepted) else one.reason.value for one in verdicts]


def check_schema_and_events(
    schema: Any, properties: Sequence[dict[str, Any]], window: Window, tally: Tally
) -> None:
    """A schema is refused with a sentence, or judges whatever comes, saying why and where."""

    def compiled() -> Definition | None:
        try:
            check_schema(schema)
        except UnusableSchema:
            return None
        return compile_definition("mine", 1, schema)

    definition = window.watched(repr(schema).encode(), compiled)
    tally.schemas += 1
    if definition is None:
        return
    for one in properties:
        violation = window.watched(repr((schema, one)).encode(), lambda one=one: definition.violation(one))
        assert violation is None or (violation.path.startswith("$.properties") and violation.sentence)
        tally.judged += 1


def run(folder: Path, number: int, seconds: float) -> Tally:
    """Until the time is over."""
    window, tally, mutator = Window(folder / "window"), Tally(), Mutator(random.Random(number))
    quiet = settings(
        max_examples=40,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )

    @quiet
    @given(st.lists(written, min_size=1, max_size=5))
    def messages(values: list[bytes]) -> None:
        check_messages(values, window, tally)

    @quiet
    @given(schemas, st.lists(readable, max_size=4))
    def validation(schema: Any, properties: list[dict[str, Any]]) -> None:
        check_schema_and_events(schema, properties, window, tally)

    until, round_ = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        round_ += 1
        for part in (messages, validation):
            seed(number + round_)(part)()
        for _ in range(60):
            check_messages(mutator.batch(), window, tally)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    asked = parser.parse_args()
    tally = run(asked.folder, asked.seed, asked.seconds)
    (asked.folder / "kept").write_bytes(b"\0".join(tally.kept))
    print(
        f"{tally.messages} messages, {tally.accepted} accepted, {tally.schemas} schemas, {tally.judged} events judged; "
        f"{dict(sorted(tally.reasons.items()))}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
