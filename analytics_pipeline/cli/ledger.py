"""Commands on the ledger: prove that nothing was lost, look at what landed.

Belongs here: arguments and words. Does not belong here: the questions (`storage.audit`, `storage.batches`).
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.options import AsJson, app, everywhere, print_json
from analytics_pipeline.cli.progress import working
from analytics_pipeline.cli.times import moment
from analytics_pipeline.cli.workers import DATABASE, database, joined

if TYPE_CHECKING:
    from analytics_pipeline.storage.batches import Batch
    from analytics_pipeline.storage.verdicts import Check, Place

ledger = typer.Typer(help="What became of every message, and the proof of it.", no_args_is_help=True)
app.add_typer(ledger, name="ledger", rich_help_panel=DATABASE)

_BROKEN = 1

Since = Annotated[str | None, typer.Option(help="A time (2026-05-15T12:00Z) or an age (24h, 7d).")]


@ledger.callback()
def _group() -> None:
    """What became of every message, and the proof of it."""


@ledger.command()
@everywhere
def verify(since: Since = None, as_json: AsJson = False) -> None:
    """Check every balance of the ledger against itself, the offsets, the events and the dead letters.

    Exit code 1 when one is broken; each broken place is named. --since looks only at batches from then on.
    """
    found = joined()
    from analytics_pipeline.storage import audit
    from analytics_pipeline.storage.verdicts import BEGINNING

    start = moment(since, "--since")
    with working("checking every balance"), database(found, "ledger") as opened:
        checks = audit.verify(opened, since=start or BEGINNING)
    if as_json:
        print_json(
            {"holds": all(check.holds for check in checks), "checks": [one.as_dict() for one in checks]}
        )
    else:
        _show_checks(checks)
    if not all(check.holds for check in checks):
        raise typer.Exit(_BROKEN)


@ledger.command()
@everywhere
def show(
    source: Annotated[str | None, typer.Argument(help="Topic, or http [default: all]")] = None,
    partition: Annotated[int | None, typer.Option(min=0)] = None,
    offset: Annotated[int | None, typer.Option(min=0, help="The batch in which this offset lies.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="One batch, by its id.")] = None,
    since: Since = None,
    until: Annotated[str | None, typer.Option(help="Before this time or age.")] = None,
    notes: Annotated[bool, typer.Option("--notes", help="Only offsets moved by a person.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Only with dead letters.")] = False,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Only with duplicates.")] = False,
    skipped: Annotated[bool, typer.Option("--skipped", help="Only with skipped offsets.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List batches, newest first: what each partition's messages became."""
    found = joined()
    from analytics_pipeline.storage.batches import Filter, batches

    wanted = Filter(
        source, partition, offset, batch, moment(since, "--since"), moment(until, "--until"),
        notes, dead, duplicates, skipped, limit,
    )  # fmt: skip
    with database(found, "ledger") as opened:
        lines = batches(opened, wanted)
    if as_json:
        print_json([asdict(line) for line in lines])
    else:
        _show_batches(lines)


def _show_checks(checks: "Sequence[Check]") -> None:
    screen = Console(highlight=False)
    for check in checks:
        numbers = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in check.numbers.items())
        mark = ("holds   ", "green") if check.holds else ("BROKEN  ", "bold red")
        screen.print(Text.assemble(mark, (check.question, "bold"), f": {numbers}"), soft_wrap=True)
        for place in check.places:
            screen.print(Text(f"        {_where(place)}: {place.problem}"), soft_wrap=True)
        if check.broken > len(check.places):
            screen.print(f"        and {check.broken - len(check.places):,} more places")


def _where(place: "Place") -> str:
    parts = [place.source or "(no source)"]
    if place.partition is not None:
        parts[0] += f"/{place.partition}"
    if place.first_offset is not None:
        parts.append(f"offsets {place.first_offset} to {place.next_offset}")
    if place.batches:
        parts.append(f"batch {', '.join(map(str, place.batches))}")
    return ", ".join(parts)


def _show_batches(lines: "Sequence[Batch]") -> None:
    table = Table(
        "batch", "partition", "offsets", "read", "stored", "duplicate", "dead", "skipped", "committed", "note"
    )
    for line in lines:
        offsets = f"{line.first_offset}–{line.next_offset}" if line.first_offset is not None else ""
        counts = [line.read, line.stored, line.duplicate, line.dead, line.skipped]
        table.add_row(
            str(line.batch_id),
            f"{line.source}/{line.partition}",
            offsets,
            *(f"{count:,}" for count in counts),
            f"{line.committed_at:%Y-%m-%d %H:%M:%S}Z",
            line.note or "",
        )
    console = Console(highlight=False)
    console.width = max(console.width, 140) if not console.is_terminal else console.width
    console.print(table if lines else "no batch matches")
