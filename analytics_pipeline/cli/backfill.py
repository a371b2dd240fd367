"""`analytics backfill`: recompute a range of rollups from raw events, or show what that would change.

Belongs here: arguments, progress and words. Does not belong here: the work (`storage.backfill`).
"""

import secrets
from collections import Counter
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.completion import metric_names
from analytics_pipeline.cli.dead_letter_display import printable
from analytics_pipeline.cli.options import app, everywhere, print_json_line
from analytics_pipeline.cli.times import moment
from analytics_pipeline.cli.words import counted
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from analytics_pipeline.rollups.compare import Difference
    from analytics_pipeline.storage.backfill import Plan
    from analytics_pipeline.storage.recompute import RecomputeResult

_FILE_WIDTH = 200


class Interval(StrEnum):
    """At which interval differences are listed."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    FIFTEEN_MINUTES = "15m"
    HOUR = "1h"
    DAY = "1d"


@app.command(rich_help_panel=DATABASE)
@everywhere
def backfill(
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="A time (2026-05-15T12:00Z) or an age (24h, 7d).")
    ],
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Before this time or age [default: now]")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Only this one; may be repeated [default: all]",
            autocompletion=metric_names,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")
    ] = False,
    interval: Annotated[
        str, typer.Option(metavar="INTERVAL", help=f"List the differences at {', '.join(Interval)}.")
    ] = Interval.HOUR.value,
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="List at most this many.")] = 100,
    restart: Annotated[
        bool, typer.Option("--restart", help="Do hours again that an interrupted backfill has done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one line an hour.")] = False,
) -> None:
    """Recompute the whole hours of a range, and their days, from raw events or their archive.

    Lists what differed from what was served. Lets landing and live merges go first. Safe to interrupt: the same command
    does the rest.
    """
    found = joined()
    from analytics_pipeline.storage import backfill as work
    from analytics_pipeline.storage.backfill_previews import preview
    from analytics_pipeline.storage.definitions import load_catalog

    first, last = _range(start, end)
    shown_at = _interval(interval)
    with database(found, "backfill") as opened:
        opened.autocommit = True
        catalog = load_catalog(opened, is_custom_enabled=found.custom_events.enabled)
        metric_ids = work.ids_of(metric or [], catalog)
        if not dry_run:
            work.check_registered(opened, metric_ids or [], catalog)
        if end is None and (needed := work.needed_until(opened, catalog, metric_ids)) is not None:
            last = max(last, needed)
        hours = work.whole_hours(first, last)
        planned = work.plan(opened, hours, catalog=catalog, metric_ids=metric_ids, restart=restart or dry_run)
        shown = _Shown(shown_at, limit, as_json=as_json, is_preview=dry_run)
        with _Progress(planned, is_preview=dry_run) as progress:
            live_first = work.LiveFirst(opened, progress.wait)
            run_id = f"backfill-{secrets.token_hex(4)}"
            conninfo = found.database.conninfo()
            common: dict[str, Any] = {
                "run_id": run_id, "before_hour": live_first, "skipped": shown.skip,
            }  # fmt: skip
            results = (
                preview(opened, conninfo, planned, **common)
                if dry_run
                else work.carry_out(opened, conninfo, planned, switched=shown.switch, **common)
            )
            for result in results:
                shown.add(result)
                progress.advance(result)
    shown.finish()


def _range(start: str, end: str | None) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    first, last = moment(start, "--from"), min(moment(end, "--to") or now, now)
    if first >= now:  # an age of 0 is counted from a moment later than `now`
        future = "lies in the future: nothing has happened there yet"
        present = "is now: nothing has happened since; write an earlier one, such as 3h"
        wrong = future if first > datetime.now(UTC) else present
        raise ConfigurationError(f"--from {first:%Y-%m-%dT%H:%MZ} {wrong}")
    if first >= last:
        raise ConfigurationError(
            f"--from {first:%Y-%m-%dT%H:%MZ} is not before --to {last:%Y-%m-%dT%H:%MZ}: swap them"
        )
    return first, last


def _interval(text: str) -> str:
    if text not in set(Interval):
        raise ConfigurationError(f"--interval: {text!r} is not one of {', '.join(Interval)}")
    return text


class _Progress:
    """How far it is, on stderr: a bar for a person, a line an hour for a file."""

    def __init__(self, planned: "Plan", *, is_preview: bool) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._total, self._done = len(planned.hours), 0
        self._verb = "compared" if is_preview else "recomputed"
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("hours"),
            TimeRemainingColumn(), TextColumn("{task.fields[wait]}"),
            console=self._console, disable=not self._console.is_terminal, transient=True,
            redirect_stdout=False,
        )  # fmt: skip
        self._task = self._bar.add_task(self._verb, total=self._total, wait="")
        if planned.done:
            self._console.print(
                f"{planned.done:,} hours were done by {planned.done_at:%Y-%m-%d %H:%M:%S}Z, in a backfill that was "
                "interrupted; --restart does them again",
                soft_wrap=True,
            )

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if kind is not None and self._verb == "recomputed":
            self._console.print(
                f"stopped after {self._done:,} of {self._total:,} hours, which stay done: the same command goes on",
                soft_wrap=True,
            )

    def advance(self, result: "RecomputeResult") -> None:
        """One hour more, or one day."""
        self._done += result.hours
        self._bar.advance(self._task, result.hours)
        if not self._console.is_terminal:
            self._console.print(
                f"{self._verb} {_named(result)}: {result.events:,} events "
                f"({self._done:,} of {self._total:,} hours)",
                soft_wrap=True,
            )

    def wait(self, reason: str | None) -> None:
        """Say why nothing moves."""
        self._bar.update(self._task, wait=f"waiting: {reason}" if reason else "")
        if reason and not self._console.is_terminal:
            self._console.print(f"waiting: {reason}", soft_wrap=True)


class _Shown:
    """What differs, on stdout; of a long range it keeps only the rows that it will show."""

    def __init__(self, interval: str, limit: int, *, as_json: bool, is_preview: bool) -> None:
        self._interval, self._limit = interval, limit
        self._as_json, self._is_preview = as_json, is_preview
        self._rows: list[Difference] = []
        self._counts: Counter[str] = Counter()
        self._hours = self._events = self._more = 0
        self._switched: list[str] = []
        self._answered_from = ""
        self._skipped: list[datetime] = []

    def add(self, result: "RecomputeResult") -> None:
        """Take one hour."""
        if self._as_json:
            print_json_line(_plain(result))
            return
        self._hours += result.hours
        self._events += result.events
        self._counts.update(one.interval for one in result.differences)
        room = self._limit - len(self._rows)
        # A day that has no hours any more has no other interval.
        shown_at = Interval.DAY if result.hours > 1 else self._interval
        listed = [one for one in result.differences if one.interval == shown_at]
        self._rows += listed[:room]
        self._more += len(listed[room:])

    def switch(self, names: list[str], first: datetime) -> None:
        """Which metrics are answered anew, and from when on."""
        self._switched = names
        self._answered_from = f"{first:%Y-%m-%dT%H:%MZ}" if self._skipped else "the beginning of the range"

    def skip(self, hour: datetime) -> None:
        """An hour that could not be done any more."""
        self._skipped.append(hour)

    def finish(self) -> None:
        """The table, and one sentence; on stderr, which hours were left out."""
        if self._skipped:
            Console(stderr=True, highlight=False).print(
                f"left out {len(self._skipped):,} hours, {self._skipped[0]:%Y-%m-%dT%H:%MZ} to "
                f"{self._skipped[-1]:%Y-%m-%dT%H:%MZ}: retention has let their raw events go since this began",
                soft_wrap=True,
            )
        if self._as_json:
            return
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = _FILE_WIDTH
        if self._rows:
            console.print(_table(self._rows))
        if self._more:
            console.print(
                f"and {self._more:,} more at {self._interval}: --limit shows more, --json all", soft_wrap=True
            )
        counts = ", ".join(f"{self._counts[level]:,} at {level}" for level in Interval)
        found = f"differences: {counts}" if self._counts else "no difference"
        done = "compared with" if self._is_preview else "recomputed from"
        written = "; nothing was written" if self._is_preview else ""
        hours = counted(self._hours, "hour")
        console.print(f"{hours} {done} {self._events:,} raw events; {found}{written}", soft_wrap=True)
        if self._switched:
            console.print(
                f"from {self._answered_from} on, the present definition answers for {', '.join(self._switched)}",
                soft_wrap=True,
            )


def _named(result: "RecomputeResult") -> str:
    return f"{result.hour:%Y-%m-%dT%H:%MZ}" if result.hours == 1 else f"{result.hour:%Y-%m-%d} whole"


def _plain(result: "RecomputeResult") -> dict[str, Any]:
    from analytics_pipeline.storage.backfill_previews import plain

    return {
        "hour": result.hour,
        "hours": result.hours,
        "events": result.events,
        "late": result.late,
        "written": result.is_written,
        "differences": [plain(one) for one in result.differences],
    }


def _table(rows: "list[Difference]") -> Table:
    table = Table(box=None)
    for name in ("bucket", "metric", "dimensions"):
        table.add_column(name, overflow="fold")
    for name in ("old", "new", "difference"):
        table.add_column(name, justify="right")
    for one in rows:
        table.add_row(
            f"{one.time_bucket:%Y-%m-%d}"
            if one.interval == Interval.DAY
            else f"{one.time_bucket:%Y-%m-%dT%H:%MZ}",
            Text(printable(one.metric_name)),
            Text(printable(one.dimensions) if one.dimensions != "{}" else ""),
            _number(one.value_before),
            _number(one.value_after),
            f"{one.change:+,.9g}",
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.9g}"
