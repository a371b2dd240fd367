"""Commands on dead letters: look at them one by one or in groups, export, replay, discard.

Belongs here: arguments. Does not belong here: how it looks (`dead_letter_display`, `dead_letter_groups`), the work
(`storage.dead_letters`, `storage.replays`).
"""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from analytics_pipeline.cli.completion import event_types
from analytics_pipeline.cli.dead_letter_display import show_list, show_one, show_replayed
from analytics_pipeline.cli.dead_letter_groups import show_groups
from analytics_pipeline.cli.options import AsJson, app, everywhere, print_json
from analytics_pipeline.cli.progress import Tell, working
from analytics_pipeline.cli.times import moment
from analytics_pipeline.cli.words import counted
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import AnalyticsError, ConfigurationError, DataError, EnvironmentFault
from analytics_pipeline.events.reasons import Reason

if TYPE_CHECKING:
    from analytics_pipeline.storage.connection import Connection
    from analytics_pipeline.storage.dead_letters import Filter

dead_letters = typer.Typer(help="Messages that could not become events.", no_args_is_help=True)
app.add_typer(dead_letters, name="dead-letters", rich_help_panel=DATABASE)


class Chosen(StrEnum):
    """Which of them, by what became of them."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    ALL = "all"


class Format(StrEnum):
    """How dead letters are exported."""

    NDJSON = "ndjson"
    KAFKA_REST = "kafka-rest"


Reasons = Annotated[
    list[Reason] | None,
    typer.Option(
        "--reason",
        metavar="CODE",
        help="Such as not_json; like the next five, more than once for any of them.",
    ),
]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        help="Event type, where it is known; 'order.*' for all that begin so.",
        autocompletion=event_types,
    ),
]
Sources = Annotated[
    list[str] | None, typer.Option("--source", help="Topic, or http; the header `source` is the producer.")
]
Producers = Annotated[
    list[str] | None,
    typer.Option("--producer", help="Who sent the messages, as `analytics sources` names them."),
]
Groups = Annotated[list[str] | None, typer.Option("--group", help="As `groups` names it.")]
Ids = Annotated[list[int] | None, typer.Option("--id", help="One dead letter.")]
Since = Annotated[
    str | None, typer.Option(help="Written from then on: 2026-05-15T12:00Z, or an age: 24h, 7d.")
]
Until = Annotated[str | None, typer.Option(help="Written before this time or age.")]
StatusOption = Annotated[Chosen, typer.Option("--status", help="What became of them.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000)]
Most = Annotated[int | None, typer.Option("--limit", min=1, help="At most this many, the oldest first.")]
All = Annotated[bool, typer.Option("--all", help="Every open one; needed where no filter is given.")]

Command = TypeVar("Command", bound=Callable[..., None])


def filtered(command: Command) -> Command:
    """Give a command the options that choose dead letters; it gets them as `which`, a `Filter`."""

    @functools.wraps(command)
    def wrapper(
        reason: list[Reason] | None = None,
        event_type: list[str] | None = None,
        source: list[str] | None = None,
        producer: list[str] | None = None,
        group: list[str] | None = None,
        number: list[int] | None = None,
        since: str | None = None,
        until: str | None = None,
        **own: Any,
    ) -> None:
        from analytics_pipeline.storage.dead_letters import Filter

        which = Filter(
            ids=tuple(number or ()),
            reasons=tuple(one.value for one in reason or ()),
            event_types=tuple(event_type or ()),
            sources=tuple(source or ()),
            producers=tuple(producer or ()),
            groups=tuple(group or ()),
            since=moment(since, "--since"),
            until=moment(until, "--until"),
        )
        command(which=which, **own)

    kinds = {
        "reason": Reasons,
        "event_type": Types,
        "source": Sources,
        "producer": Producers,
        "group": Groups,
        "number": Ids,
        "since": Since,
        "until": Until,
    }
    chosen = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=None)
        for name, kind in kinds.items()
    ]
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "which"]
    own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    wrapper.__signature__ = inspect.Signature([*chosen, *own])  # type: ignore[attr-defined]
    return cast(Command, wrapper)


@dead_letters.callback()
def _group() -> None:
    """Messages that could not become events: kept with their bytes until somebody decides."""


@dead_letters.command("list")
@everywhere
@filtered
def list_(
    which: "Filter",
    status: StatusOption = Chosen.OPEN,
    limit: Limit = 50,
    before: Annotated[
        int | None, typer.Option(help="The page after the one that ended with this id.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    found = joined()
    from analytics_pipeline.storage.dead_letters import find

    with database(found, "dead-letters") as opened:
        letters = find(opened, _with_status(which, status), limit=limit, before=before)
        hint = "" if letters else _hint(opened, which)
    if as_json:
        print_json([asdict(letter) for letter in letters])
    elif letters:
        show_list(letters)
    if not letters:
        _tell_of_none(hint, as_json=as_json)


@dead_letters.command()
@everywhere
@filtered
def groups(
    which: "Filter",
    status: StatusOption = Chosen.OPEN,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by reason, place and shape of the value, the largest group first.

    Two lines a group, with what of the shape tells it from others; `--json` has the whole shape.
    """
    found = joined()
    from analytics_pipeline.storage.dead_letters import count_groups, groups

    chosen = _with_status(which, status)
    with database(found, "dead-letters") as opened:
        listed = groups(opened, chosen, limit=limit)
        left = count_groups(opened, chosen) - limit if len(listed) == limit else 0
        hint = "" if listed else _hint(opened, which)
    if as_json:
        print_json([asdict(group) for group in listed])
    elif listed:
        show_groups(listed)
    if not listed:
        _tell_of_none(hint, as_json=as_json)
    if left > 0:
        noun = "group" if left == 1 else "groups"
        typer.echo(f"{left:,} more {noun}, with fewer letters: --limit shows more, up to 500", err=as_json)


@dead_letters.command()
@everywhere
def show(
    number: Annotated[int, typer.Argument(metavar="ID")],
    most: Annotated[int, typer.Option("--bytes", min=0, help="Show at most this many of the value.")] = 2000,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: where it came from, what is wrong with it, what to do, and its bytes."""
    found = joined()
    from analytics_pipeline.storage.dead_letter_export import as_record
    from analytics_pipeline.storage.dead_letters import read

    with database(found, "dead-letters") as opened:
        one = read(opened, number)
    if one is None:
        raise AnalyticsError(
            f"there is no dead letter {number}: `analytics dead-letters list` shows those there are"
        )
    if as_json:
        print_json(as_record(*one))
    else:
        show_one(*one, most)


@dead_letters.command()
@everywhere
@filtered
def export(
    which: "Filter",
    status: StatusOption = Chosen.OPEN,
    limit: Most = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A new file [default: print]")] = None,
    form: Annotated[
        Format,
        typer.Option("--format", help="kafka-rest: records for the Kafka REST proxy to produce again."),
    ] = Format.NDJSON,
) -> None:
    """Write dead letters as JSON, one a line, oldest first, all bytes in base64."""
    found = joined()
    from analytics_pipeline.storage.dead_letter_export import as_produce_request, as_record, export

    written, hint = 0, ""
    with _output(output) as out, database(found, "dead-letters") as opened, _counting(output) as tell:
        opened.rollback()
        for letter, content in export(opened, _with_status(which, status), limit=limit):
            line = as_record(letter, content) if form is Format.NDJSON else as_produce_request(content)
            out.write(json.dumps(line) + "\n")
            written += 1
            tell(f"{counted(written, 'dead letter')} exported")
        hint = "" if written else _hint(opened, which)
    typer.echo(f"{counted(written, 'dead letter')} exported{hint}", err=True)


@dead_letters.command()
@everywhere
@filtered
def replay(
    which: "Filter",
    limit: Most = None,
    every: All = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Judge them, change nothing; duplicates count as stored.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Land open dead letters again, judged by the present definitions and limits.

    What can be an event now is stored with its coordinates and id. What is still bad stays open, with its new
    reason; then the exit code is 4. Safe to repeat and to interrupt.
    """
    _require(which, every, "replay")
    found = joined()
    from analytics_pipeline.storage.replay_runs import run
    from analytics_pipeline.storage.replays import Replayed

    done, hint = Replayed(), ""
    with database(found, "replay") as opened:
        opened.rollback()
        try:
            with working("replaying") as tell:
                for batch in run(opened, found, which, is_dry_run=dry_run, limit=limit):
                    done.add(batch)
                    tell(f"replaying: {done.tried:,} tried, {done.stored:,} stored")
            if done.tried and not dry_run:
                _note(opened, "replay", done.tried)
            hint = "" if done.tried or done.busy else _hint(opened, which)
        except EnvironmentFault as error:
            raise EnvironmentFault(f"{error}; what was replayed stays replayed: run this again") from error
        finally:
            show_replayed(done, hint, is_dry_run=dry_run, as_json=as_json)
    if done.still_bad or done.busy:
        raise typer.Exit(DataError.exit_code)


@dead_letters.command()
@everywhere
@filtered
def discard(
    which: "Filter",
    note: Annotated[str, typer.Option(help="Why, kept with them.")],
    limit: Most = None,
    every: All = False,
    as_json: AsJson = False,
) -> None:
    """Say of open dead letters that they will never be replayed; they and their bytes stay."""
    _require(which, every, "discard")
    found = joined()
    from analytics_pipeline.storage.dead_letters import discard

    with database(found, "dead-letters") as opened:
        opened.rollback()
        discarded = discard(opened, which, note=note, limit=limit)
        if discarded:
            _note(opened, "discard", discarded)
        hint = "" if discarded else _hint(opened, which)
    if as_json:
        print_json({"discarded": discarded})
    if hint or not as_json:
        typer.echo(f"{counted(discarded, 'dead letter')} discarded{hint}", err=as_json)


def _note(opened: "Connection", what: str, count: int) -> None:
    """For the audit log, as keys and REST have it."""
    from analytics_pipeline.storage.audit_log import write_command

    write_command(opened, datetime.now(UTC), f"analytics dead-letters {what}", f"{count} dead letters")
    opened.commit()


def _require(which: "Filter", every: bool, what: str) -> None:
    if which.is_empty and not every:
        raise ConfigurationError(
            f"say which dead letters to {what}: give a filter such as --reason, or --all"
        )


def _with_status(which: "Filter", status: Chosen) -> "Filter":
    from dataclasses import replace

    from analytics_pipeline.storage.dead_letters import Status

    return which if status is Chosen.ALL else replace(which, statuses=(Status(status.value),))


def _hint(opened: "Connection", which: "Filter") -> str:
    """How a sentence ends that says that nothing matches, where a topic that was asked for is a producer's name."""
    from analytics_pipeline.storage.producers import known_producers

    names = known_producers(opened, which.sources) if which.sources else []
    return "".join(f"; {name} is a producer: --producer {name}" for name in names)


def _tell_of_none(hint: str, *, as_json: bool) -> None:
    """An empty list says it itself, to a program."""
    if hint or not as_json:
        typer.echo(f"no dead letter matches{hint}", err=as_json)


@contextmanager
def _counting(output: Path | None) -> Iterator[Tell]:
    """Only where the lines themselves are not shown."""
    if output is None:
        yield lambda _words: None
    else:
        with working("exporting") as tell:
            yield tell


@contextmanager
def _output(path: Path | None) -> Iterator[IO[str]]:
    if path is None:
        yield sys.stdout
        return
    try:
        opened = path.open("x", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"--output {path}: {error.strerror}; give a file that can be made new"
        ) from None
    with opened:
        yield opened
