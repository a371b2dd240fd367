"""`analytics import`: move the history of the original service into this product, or show what that would do.

Belongs here: arguments, the question whether to begin, progress and words. Does not belong here: the work
(`storage.import_plan`, `storage.import_runs`).
"""

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from analytics_pipeline.cli.dead_letter_display import printable
from analytics_pipeline.cli.options import app, everywhere, print_json_line
from analytics_pipeline.cli.times import moment
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from analytics_pipeline.storage.import_plan import Plan
    from analytics_pipeline.storage.import_runs import DayDone

_READ_ONLY = "SET default_transaction_read_only = on"


@app.command("import", rich_help_panel=DATABASE)
@everywhere
def import_(
    from_url: Annotated[
        str,
        typer.Option(
            "--from-url",
            metavar="URL",
            help="The original's: postgres://user:password@host/database",
            show_default=False,
        ),
    ],
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="DAY", help="First UTC day, 2026-05-15 or an age: 30d [default: their first]"
        ),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="DAY", help="Before this UTC day [default: now]")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say for each day what would become of it, and write nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Begin without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one line a day.")] = False,
) -> None:
    """Move events and custom event definitions of the original service here, day by day.

    Their database is only read. Every event is judged by the rules of this product; ids stay, so nothing is stored
    twice. Each day is compared with theirs when it is done. Safe to interrupt and to repeat: the same command goes on
    where it was, and takes up days that changed since.
    """
    found = joined()
    from analytics_pipeline.storage import import_runs
    from analytics_pipeline.storage.import_plan import plan
    from analytics_pipeline.storage.original import connected

    first, last = _day(start, "--from"), _day(end, "--to")
    console = Console(stderr=True, highlight=False)
    with database(found, "import") as opened, connected(from_url) as original:
        opened.rollback()
        opened.autocommit = True
        if dry_run:
            opened.execute(_READ_ONLY)
        planned = plan(opened, original, found, first=first, end=last, now=datetime.now(UTC))
        _show_plan(console, planned)
        if not planned.days and not planned.definitions:
            return
        if not (dry_run or yes):
            _ask(planned)
        with _Progress(console, planned, is_preview=dry_run) as progress:
            days: Iterator[DayDone]
            if dry_run:
                days = import_runs.preview(opened, original, found, planned)
            else:
                live_first = import_runs.LiveFirst(opened, progress.wait)
                days = import_runs.Importer(
                    opened, original, found, live_first=live_first, moved=progress.moved
                ).run(planned)
            for day in days:
                progress.advance(day)
                if as_json:
                    print_json_line(_plain(day))
                else:
                    typer.echo(_line(day, is_preview=dry_run))
            progress.finish()


def _day(text: str | None, option: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    return moment(text, option).date()


def _ask(planned: "Plan") -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "nobody is there to be asked whether to begin: give --yes, or --dry-run first"
        )
    typer.confirm(f"Move {len(planned.days):,} days of {planned.origin} here?", abort=True, err=True)


def _show_plan(console: Console, planned: "Plan") -> None:
    """What is moved and what is left, on stderr."""

    def say(text: str) -> None:
        console.print(Text(printable(text)), soft_wrap=True)

    if planned.days:
        say(
            f"{planned.origin}: {len(planned.days):,} days with events, {planned.days[0]} to {planned.days[-1]}"
        )
    else:
        say(f"{planned.origin}: no events from {planned.first:%Y-%m-%d} to {planned.end:%Y-%m-%d}")
    for count, where in (
        (planned.earlier, f"before {planned.first:%Y-%m-%d}"),
        (planned.later, f"from {planned.end:%Y-%m-%d} on"),
    ):
        if count:
            say(f"left: {count:,} events {where}")
    if planned.aggregates:
        say(
            f"left: {planned.aggregates:,} rows of their metric_aggregations from before the first day: they hold no "
            "states and were computed before their bucket was over, so nothing here can be made of them"
        )
    for definition, fate, problem in planned.definitions:
        say(f"definition {definition.name}: {fate.value}{': ' if problem else ''}{problem}")


def _plain(day: "DayDone") -> dict[str, Any]:
    return {
        "day": day.day,
        "read": day.read,
        "stored": day.stored,
        "duplicate": day.duplicate,
        "dead": day.dead,
        "reasons": dict(day.reasons.most_common()),
        "younger": day.younger,
        "unchanged": day.is_unchanged,
    }


def _line(day: "DayDone", *, is_preview: bool) -> str:
    verb = "would be stored" if is_preview else "stored"
    parts = [
        f"{day.day}: {day.read:,} events: {day.stored:,} {verb}, {day.duplicate:,} duplicate, {day.dead:,} dead"
    ]
    if day.reasons:
        parts.append(
            " (" + ", ".join(f"{reason} {count:,}" for reason, count in day.reasons.most_common()) + ")"
        )
    if day.younger:
        parts.append(f"; {day.younger:,} too young, left for another time")
    if day.is_unchanged:
        parts.append("; done before, unchanged")
    return "".join(parts)


class _Progress:
    """How far it is, on stderr."""

    def __init__(self, console: Console, planned: "Plan", *, is_preview: bool) -> None:
        self._console, self._is_preview = console, is_preview
        self._days = self._events = 0
        self._total = len(planned.days)
        self._sums = dict.fromkeys(("read", "stored", "duplicate", "dead"), 0)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("days"),
            TextColumn("{task.fields[events]}"), TimeRemainingColumn(), TextColumn("{task.fields[wait]}"),
            console=console, disable=not console.is_terminal, transient=True, redirect_stdout=False,
        )  # fmt: skip
        self._task = self._bar.add_task(
            "judged" if is_preview else "moved", total=self._total, wait="", events=""
        )

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if kind is not None and not self._is_preview:
            self._console.print(
                f"stopped after {self._days:,} of {self._total:,} days; what was moved stays: the same command goes on",
                soft_wrap=True,
            )

    def moved(self, events: int) -> None:
        """A batch more."""
        self._events += events
        self._bar.update(self._task, events=f"{self._events:,} events")

    def advance(self, day: "DayDone") -> None:
        """A day more."""
        self._days += 1
        for name in self._sums:
            self._sums[name] += getattr(day, name)
        self._bar.advance(self._task)

    def wait(self, reason: str | None) -> None:
        """Say why nothing moves."""
        self._bar.update(self._task, wait=f"waiting: {reason}" if reason else "")

    def finish(self) -> None:
        """The sums."""
        read, stored, duplicate, dead = (f"{self._sums[name]:,}" for name in self._sums)
        what = "would be stored" if self._is_preview else "stored"
        self._console.print(
            f"{self._days:,} days, {read} events: {stored} {what}, {duplicate} duplicate, {dead} dead"
            + ("" if self._is_preview else "; each day agrees with the original's by type and by hash"),
            soft_wrap=True,
        )
