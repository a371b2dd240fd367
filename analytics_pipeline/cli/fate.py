"""`analytics fate`: what became of messages.

Belongs here: arguments and words. Does not belong here: reading lists of messages (`fate_questions`), looking them up
(`storage.fates`).
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from analytics_pipeline.cli.dead_letter_display import printable
from analytics_pipeline.cli.options import app, everywhere, json_line, print_json
from analytics_pipeline.cli.progress import Tell, working
from analytics_pipeline.cli.times import iso, moment
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from analytics_pipeline.storage.fates import Fate
    from analytics_pipeline.storage.fates_of_ids import Question

_UNKNOWN = 1
_AT_ONCE = 10_000
"""Messages of a file that are looked up together."""

Answer = Callable[["Sequence[Question]"], list[list["Fate"]]]


@app.command(rich_help_panel=DATABASE)
@everywhere
def fate(
    topic: Annotated[str | None, typer.Argument(help="Kafka topic …")] = None,
    partition: Annotated[int | None, typer.Argument(min=0, max=2**31 - 1, help="… its partition …")] = None,
    offset: Annotated[
        int | None, typer.Argument(min=0, max=2**63 - 1, help="… and the message's offset.")
    ] = None,
    event_id: Annotated[str | None, typer.Option("--id", help="Instead: the event's id.")] = None,
    time: Annotated[str | None, typer.Option(help="With --id: the event's timestamp.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Instead: a file with one message a line, - for stdin: `topic partition offset`, `id` or "
            "`id timestamp`, or JSON with these names."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs; with --file one line a message.")
    ] = False,
) -> None:
    """Tell what became of messages: stored, duplicate, dead letter, or not read yet. Exit code 1: one is unknown."""
    ways = [offset is not None, event_id is not None, file is not None]
    if sum(ways) != 1 or (topic is not None and offset is None) or (time is not None and event_id is None):
        raise ConfigurationError("give a topic, a partition and an offset, or --id (with --time), or --file")
    if file is not None:
        is_known = _tell_all(file, as_json=as_json)
    else:
        is_known = _tell_one(_question(topic, partition, offset, event_id, time), as_json=as_json)
    if not is_known:
        raise typer.Exit(_UNKNOWN)


def _question(
    topic: str | None, partition: int | None, offset: int | None, event_id: str | None, time: str | None
) -> "Question":
    from analytics_pipeline.events.messages import Offset
    from analytics_pipeline.storage.fates_of_ids import EventKey

    if event_id is not None:
        return EventKey(_uuid(event_id), moment(time, "--time"))
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Offset(topic, partition, offset)


def _tell_one(question: "Question", *, as_json: bool) -> bool:
    """Every reading of a message; whether anything is known."""
    from analytics_pipeline.storage.fates import Verdict

    with _answering() as answer:
        [found] = answer([question])
    if as_json:
        print_json([one._asdict() for one in found])
    else:
        for one in found:
            typer.echo(sentence(one))
    return any(one.verdict is not Verdict.UNKNOWN for one in found)


def _tell_all(file: Path, *, as_json: bool) -> bool:
    """A line a message, in their order, and the sums on stderr; whether something is known of each."""
    from analytics_pipeline.cli.fate_questions import portions
    from analytics_pipeline.storage.fates import Verdict, outcome

    counted: Counter[Verdict] = Counter()
    with _lines(file) as lines, _answering() as answer, _progress() as tell:
        for questions in portions(lines, _AT_ONCE):
            found = [outcome(fates) for fates in answer(questions)]
            counted.update(one.verdict for one in found)
            words = [json_line(one._asdict()) if as_json else sentence(one) for one in found]
            typer.echo("\n".join(words))
            tell(f"{counted.total():,} messages looked up")
    sums = ", ".join(f"{counted[verdict]:,} {verdict.value}" for verdict in Verdict if counted[verdict])
    typer.echo(f"{counted.total():,} messages: {sums}" if sums else "no messages were asked for", err=True)
    return not counted[Verdict.UNKNOWN]


@contextmanager
def _answering() -> "Iterator[Answer]":
    """Looks messages up in the database, and asks Kafka about those that were not read."""
    from analytics_pipeline.storage.fates import is_unread
    from analytics_pipeline.storage.fates_of_ids import fates_of

    found, unread = joined(), None
    with database(found, "fate") as opened:
        opened.rollback()
        opened.autocommit = True  # nothing is held while the next lines are awaited

        def answer(questions: "Sequence[Question]") -> "list[list[Fate]]":
            nonlocal unread
            answers = fates_of(opened, questions)
            if not any(is_unread(one) for fates in answers for one in fates):
                return answers
            from analytics_pipeline.ingest.unread import Unread

            unread = unread or Unread(found.kafka)
            return unread.judge(answers)

        yield answer


@contextmanager
def _lines(file: Path) -> Iterator[IO[bytes]]:
    if str(file) == "-":
        yield typer.get_binary_stream("stdin")
        return
    try:
        opened = file.open("rb")
    except OSError as error:
        raise ConfigurationError(f"--file {file}: {error.strerror}") from None
    with opened:
        yield opened


@contextmanager
def _progress() -> Iterator[Tell]:
    """Only where the answers themselves are not shown."""
    if sys.stdout.isatty():
        yield lambda _words: None
    else:
        with working("looking up messages") as tell:
            yield tell


def sentence(one: "Fate") -> str:
    """All that is known, in one line."""
    parts = [one.verdict.value if one.reason is None else f"{one.verdict.value}: {one.reason}", one.detail]
    if one.event_id is not None:
        event = f"{one.event_type} {one.event_id} at {iso(one.event_time)}" if one.event_time else ""
        parts.append(event or f"event {one.event_id}")
    if one.source is not None:
        parts.append(f"{one.source}/{one.partition} offset {one.offset}")
    if one.dead_letter is not None:
        parts.append(f"analytics dead-letters show {one.dead_letter}")
    if one.batch_id is not None:
        parts.append(f"batch {one.batch_id}")
    if one.at is not None:
        parts.append(f"landed {iso(one.at, 'milliseconds')}")
    return printable("; ".join(part for part in parts if part))


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ConfigurationError("--id: this is no UUID") from None
