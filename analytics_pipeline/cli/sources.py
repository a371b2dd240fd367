"""`analytics sources`: what each producer sends, how late, and what becomes of it.

Belongs here: arguments and words. Does not belong here: the numbers (`storage.source_statistics`).
"""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.options import AsJson, app, everywhere, print_json
from analytics_pipeline.cli.times import moment
from analytics_pipeline.cli.workers import DATABASE, database, joined

if TYPE_CHECKING:
    from analytics_pipeline.storage.source_statistics import SourceStatistics

_DEFAULT = timedelta(hours=24)
_FILE_WIDTH = 200
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


@app.command(rich_help_panel=DATABASE)
@everywhere
def sources(
    since: Annotated[
        str | None, typer.Option(help="A time (2026-05-15T12:00Z) or an age (1h, 7d) [default: 24h]")
    ] = None,
    producer: Annotated[str | None, typer.Option(help="Of this producer alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show who sent what since then, in whole hours: rate, lateness, clock skew, duplicates, dead letters."""
    found = joined()
    from analytics_pipeline.storage.source_statistics import read

    now = datetime.now(UTC)
    start = moment(since, "--since") or now - _DEFAULT
    with database(found, "sources") as opened:
        statistics = read(opened, since=start, until=now, producer=producer)
    if as_json:
        print_json([asdict(one) for one in statistics])
    else:
        _show(statistics, start)


def _show(statistics: "list[SourceStatistics]", start: datetime) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    if not statistics:
        console.print("nothing landed in this time")
        return
    console.print(
        f"what landed from {start.astimezone(UTC):%Y-%m-%d %H}:00Z until now; per s is over all of that"
    )
    table = Table(box=None)
    for name in ("source", "producer"):
        table.add_column(name, overflow="fold")
    for name in ("read", "per s", "late p50", "late p99", "ahead p99", "ahead max", "twice", "dead"):
        table.add_column(name, justify="right")
    for one in statistics:
        table.add_row(
            Text(one.source),
            Text(one.producer or "–"),
            f"{one.read:,}",
            f"{one.rate:,.2f}",
            span(one.lateness_p50_ms),
            span(one.lateness_p99_ms),
            span(one.ahead_p99_ms),
            span(one.ahead_max_ms),
            f"{one.duplicate:,}",
            f"{one.dead:,}",
        )
    console.print(table)
    for one in statistics:
        if one.reasons:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in one.reasons.items())
            console.print(
                Text(f"dead letters of {one.source}, {one.producer or 'no name'}: {reasons}"), soft_wrap=True
            )


def span(milliseconds: float | None) -> str:
    """`–`, `0`, `12 ms`, `3.4 s`, `2.0 h`."""
    if milliseconds is None:
        return "–"
    for size, unit in _UNITS:
        if milliseconds >= size:
            return f"{milliseconds / size:,.1f} {unit}"
    return f"{milliseconds:.0f} ms" if milliseconds >= 1 else "0"
