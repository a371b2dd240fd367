"""Commands on the offsets of landing: look where each partition stands, and move one after having looked why.

Belongs here: arguments and words. Does not belong here: what is refused (`ingest.moves`), the work (`storage.offsets`).
"""

import getpass
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from analytics_pipeline.cli.options import AsJson, app, everywhere, print_json
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import ConfigurationError, EnvironmentFault
from analytics_pipeline.settings import Settings

if TYPE_CHECKING:
    from analytics_pipeline.ingest.consumer import Bounds, Partition
    from analytics_pipeline.ingest.moves import Move
    from analytics_pipeline.storage.standings import Standing

offsets = typer.Typer(help="Where landing stands in each Kafka partition.", no_args_is_help=True)
app.add_typer(offsets, name="offsets", rich_help_panel=DATABASE)

_NARROWEST = 140

Topic = Annotated[str, typer.Argument(help="Kafka topic")]
Number = Annotated[int, typer.Argument(min=0, help="Its partition")]
Target = Annotated[int, typer.Argument(min=0, help="Where to go on reading")]
By = Annotated[str | None, typer.Option(help="Who, kept in the ledger [default: user@host]")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]


@offsets.callback()
def _group() -> None:
    """Where landing stands in each Kafka partition."""


@offsets.command()
@everywhere
def show(
    topic: Annotated[str | None, typer.Argument(help="Kafka topic [default: all]")] = None,
    as_json: AsJson = False,
) -> None:
    """Show next offset, epoch, what Kafka holds, lag, freshness and owner of each partition."""
    found = joined()
    from analytics_pipeline.storage.standings import read_standings

    with database(found, "offsets") as opened:
        rows = read_standings(opened, topic)
    try:
        held = _held(found, rows)
    except EnvironmentFault as error:
        held = {}
        typer.echo(f"without Kafka's side: {error}", err=True)
    if as_json:
        lines = [{**asdict(row), **_kafkas_side(row, held)} for row in rows]
        print_json(lines)
    else:
        _show(rows, held)


@offsets.command()
@everywhere
def seek(
    topic: Topic,
    partition: Number,
    offset: Target,
    reason: Annotated[str, typer.Option(help="Why, kept in the ledger.")] = "moved by an operator",
    by: By = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Go on reading a partition elsewhere, forward or backward; the ledger records it. A running ingest follows.

    Messages that are read again count as duplicates where their events are stored.
    """
    note = f"{reason} (seek by {by or _who()})"
    _move("seek", (topic, partition), offset, note, yes=yes, dry_run=dry_run, as_json=as_json)


@offsets.command("skip-to")
@everywhere
def skip_to(
    topic: Topic,
    partition: Number,
    offset: Target,
    reason: Annotated[str, typer.Option(help="Why, kept in the ledger.")] = "skipped by an operator",
    by: By = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Leave out messages up to an offset; the ledger records which. A running ingest follows.

    For a partition that is stopped: its messages were deleted before they were read, or its topic was deleted and
    created again.
    """
    note = f"{reason} (skip-to by {by or _who()})"
    _move("skip-to", (topic, partition), offset, note, yes=yes, dry_run=dry_run, as_json=as_json)


@offsets.command()
@everywhere
def retire(
    topic: Topic,
    partition: Annotated[int | None, typer.Argument(min=0, help="Its partition [default: all]")] = None,
    reason: Annotated[str, typer.Option(help="Why, kept in the ledger.")] = "retired by an operator",
    by: By = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Say that a topic is read no more, so that no bucket waits for it; the ledger records it.

    Refused while the topic is in the configuration, but for partitions that Kafka no longer has, and while an ingest
    process reads it. If it is read again, ingest takes that back by itself and goes on where it stood.
    """
    found = joined()
    from analytics_pipeline.ingest.moves import to_retire
    from analytics_pipeline.storage import offsets as storage
    from analytics_pipeline.storage.standings import read_standings

    with database(found, "offsets") as opened:
        known = read_standings(opened)
        opened.rollback()
        # A partition that Kafka lost, of a topic made anew, is read by nobody, though the topic is.
        is_configured = topic in found.kafka.topics
        read = _held(found, [row for row in known if row.source == topic]) if is_configured else {}
        rows = to_retire(known, topic, partition, read)
        names = ", ".join(f"{row.source}/{row.partition}" for row in rows)
        if rows and not dry_run:
            typer.echo(f"{names}: no bucket will wait for it any more", err=as_json)
            _confirm(yes=yes)
            epochs = {(row.source, row.partition): row.epoch for row in rows}
            storage.retire(opened, epochs, note=f"{reason} (retire by {by or _who()})")
    if as_json:
        retired = [{"source": row.source, "partition": row.partition} for row in rows]
        print_json({"partitions": retired, "is_retired": bool(rows) and not dry_run})
    elif not rows:
        typer.echo(f"{topic} is retired already; nothing was changed")
    else:
        typer.echo(f"would retire {names}; nothing was changed" if dry_run else f"retired {names}")


def _move(
    command: str, partition: "Partition", target: int, note: str, *, yes: bool, dry_run: bool, as_json: bool
) -> None:
    found, may_go_back = joined(), command == "seek"
    from analytics_pipeline.ingest.moves import carry_out, plan
    from analytics_pipeline.storage.standings import read_standings

    with database(found, "offsets") as opened:
        rows = read_standings(opened)
        opened.rollback()
        held = _held(found, [row for row in rows if (row.source, row.partition) == partition])
        move = plan(rows, held, partition, target, may_go_back=may_go_back)
        for line in _describe(move):
            typer.echo(line, err=as_json)
        if dry_run:
            _tell_move(move, None, "nothing was changed", as_json=as_json)
            return
        _confirm(yes=yes)
        before = carry_out(opened, found.database.conninfo(), move, note=note, may_go_back=may_go_back)
    name = f"{partition[0]}/{partition[1]}"
    words = f"{name} goes on at {target}; it stood at {before.next_offset}. The ledger says: {note}"
    _tell_move(move, before.next_offset, words, as_json=as_json)


def _confirm(*, yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise ConfigurationError("nobody can be asked here: add --yes to do it, or --dry-run to look")
    if not yes:
        typer.confirm("Do it?", abort=True)


def _tell_move(move: "Move", stood_at: int | None, words: str, *, as_json: bool) -> None:
    """`stood_at` is None where nothing was changed."""
    if as_json:
        topic, number = move.partition
        print_json({
            "source": topic, "partition": number, "next_offset": move.start if stood_at is None else move.target,
            "stood_at": stood_at, "target": move.target, "low": move.bounds.low, "high": move.bounds.high,
            "left_out": move.left_out, "read_again": move.read_again, "is_moved": stood_at is not None,
        })  # fmt: skip
    else:
        typer.echo(words)


def _describe(move: "Move") -> list[str]:
    name, (low, high) = f"{move.partition[0]}/{move.partition[1]}", move.bounds
    lines = [f"{name} stands at {move.start}; Kafka holds {low} to {high}; it would go on at {move.target}"]
    if move.left_out:
        there = max(0, move.target - max(move.start, low))
        lines.append(
            f"warning: {move.left_out} offsets are left out for good; Kafka still holds {there} of them"
        )
    if move.read_again:
        lines.append(
            f"warning: {move.read_again} offsets are read again; events that are stored are recognised by timestamp "
            "and id and count as duplicates, except those with an id that holds no time and without a timestamp"
        )
    if move.start > high:
        lines.append(
            "the topic ends before that: it was recreated or truncated, and what it holds is read as new"
        )
    return lines


def _held(found: Settings, rows: "Sequence[Standing]") -> "dict[Partition, Bounds]":
    from analytics_pipeline.ingest.topics import bounds

    return bounds(found.kafka, [(row.source, row.partition) for row in rows]) if found.kafka.enabled else {}


def _kafkas_side(row: "Standing", held: "Mapping[Partition, Bounds]") -> dict[str, Any]:
    there = held.get((row.source, row.partition))
    if there is None:
        return {"low": None, "high": None, "lag": None}
    # a topic that ends before it was recreated: all that it holds is still to be read
    start = row.next_offset if row.next_offset <= there.high else there.low
    return {"low": there.low, "high": there.high, "lag": there.high - max(start, there.low)}


def _show(rows: "Sequence[Standing]", held: "Mapping[Partition, Bounds]") -> None:
    now = datetime.now(UTC)
    table = Table("partition", "next offset", "epoch", "low", "high", "lag", "caught up", "owner")
    for row in rows:
        side = _kafkas_side(row, held)
        fresh = f"{(now - row.caught_up_at).total_seconds():,.1f} s ago" if row.caught_up_at else "never"
        owner = (row.owner or "") + ("" if row.is_owner_connected or not row.owner else " (gone)")
        table.add_row(
            f"{row.source}/{row.partition}",
            str(row.next_offset),
            str(row.epoch),
            *("?" if side[name] is None else str(side[name]) for name in ("low", "high", "lag")),
            "retired" if row.is_retired else fresh,
            owner,
        )
    console = Console(highlight=False)
    console.width = max(console.width, _NARROWEST) if not console.is_terminal else console.width
    console.print(table if rows else "no partition has been read yet")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in this container
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
