"""Dead letters on a terminal: a table, one letter in full, the outcome of a replay.

Belongs here: words, and making bytes and names of producers harmless to print. Does not belong here: arguments
(`cli.dead_letters`), groups (`cli.dead_letter_groups`).
"""

from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.options import print_json
from analytics_pipeline.cli.times import to_second
from analytics_pipeline.events.reasons import Reason

if TYPE_CHECKING:
    from analytics_pipeline.storage.dead_letters import Content, Letter
    from analytics_pipeline.storage.replays import Replayed

_NARROWEST = 160


def _screen() -> Console:
    screen = Console(highlight=False)
    screen.width = screen.width if screen.is_terminal else max(screen.width, _NARROWEST)
    return screen


def show_list(letters: "list[Letter]") -> None:
    """One line a letter."""
    table = Table(
        "id", "written", "message", "producer", "reason", "type", "status", "tries", "bytes", "detail"
    )
    for letter in letters:
        table.add_row(
            str(letter.id),
            to_second(letter.created_at),
            *(
                Text(printable(cell or "–"))
                for cell in (
                    _where(letter),
                    letter.producer,
                    letter.reason,
                    letter.event_type,
                    letter.status,
                )
            ),
            str(letter.attempts),
            f"{letter.size:,}",
            Text(printable(letter.detail)),
        )
    _screen().print(table)


def show_one(letter: "Letter", content: "Content", most: int) -> None:
    """Everything about one letter; of key and value at most `most` bytes, of headers names and lengths."""
    known = letter.reason in set(Reason)
    rows = [
        ("dead letter", str(letter.id)),
        ("message", f"{_where(letter)}, {to_second(letter.message_timestamp, 'no time')}"),
        ("producer", letter.producer or "gave no name"),
        ("written", f"{to_second(letter.created_at)}, group {letter.group}"),
        ("event type", letter.event_type or "not known"),
        ("reason", letter.reason),
        ("detail", letter.detail),
        *([("advice", Reason(letter.reason).advice)] if known else []),
        ("status", _status(letter)),
        ("key", _shown(content.key, most)),
        *(
            (f"header {name}", "null" if value is None else f"{len(value):,} bytes")
            for name, value in content.headers
        ),
        ("value", _shown(content.value, most)),
    ]
    screen = Console(highlight=False)
    for name, words in rows:
        screen.print(Text.assemble((f"{printable(name):<12} ", "bold"), printable(words)), soft_wrap=True)
    if max(len(content.value or b""), len(content.key or b"")) > most:
        screen.print(f"the rest: analytics dead-letters export --id {letter.id} --status all")


def show_replayed(done: "Replayed", hint: str, *, is_dry_run: bool, as_json: bool) -> None:
    """What became of the letters, or would have; `hint` ends the sentence where there were none."""
    if as_json:
        print_json(vars(done))
    if not (done.tried or done.busy):
        if hint or not as_json:
            typer.echo(f"no open dead letter matches: nothing to replay{hint}", err=as_json)
        return
    if as_json:
        return
    would = "would be " if is_dry_run else ""
    typer.echo(f"{done.tried:,} tried: {done.stored:,} {would}stored, {done.duplicate:,} {would}duplicates")
    for reason, number in sorted(done.still_bad.items()):
        typer.echo(
            f"{number:,} {'would be ' if is_dry_run else ''}still open, {reason}: {Reason(reason).meaning}"
        )
    if done.busy:
        typer.echo(f"{done.busy:,} are held by another replay at this moment: run this again")


def _where(letter: "Letter") -> str:
    return f"{letter.source}/{letter.partition}@{letter.offset}"


def _status(letter: "Letter") -> str:
    tries = (
        f"{letter.attempts} replays, the last {to_second(letter.attempted_at, 'no time')}"
        if letter.attempts
        else "never replayed"
    )
    batch = f"; landed by batch {letter.replay_batch_id}" if letter.replay_batch_id is not None else ""
    note = f"; {letter.note}" if letter.note else ""
    settled = f" since {to_second(letter.settled_at)}" if letter.settled_at is not None else ""
    return f"{letter.status}{settled}; {tries}{batch}{note}"


def _shown(value: bytes | None, most: int) -> str:
    if value is None:
        return "null"
    if len(value) <= most:
        return printable(value) or "empty"
    return f"{printable(value[:most])} … the first {most:,} of {len(value):,} bytes"


def printable(value: str | bytes) -> str:
    """Text that does nothing to a terminal: control characters, and bytes that are not UTF-8, are escaped."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
