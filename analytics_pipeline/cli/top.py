"""`analytics top`: the pipeline, live in the terminal.

Belongs here: arguments, keys, when to draw. Does not belong here: reading (`overview`), layout (`cli.top_view`).
"""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from analytics_pipeline.cli.doctor import PANEL
from analytics_pipeline.cli.options import app, everywhere, print_json_line
from analytics_pipeline.cli.top_view import line, screen
from analytics_pipeline.cli.workers import joined

if TYPE_CHECKING:
    from analytics_pipeline.overview.watch import Watch

_FIRST_RATES = 1.0
"""Seconds between the two readings of --once: some rates are differences."""
_TICK = 0.1
_QUIT = frozenset("qQ")
_FILE_WIDTH = 140
_FILE_HEIGHT = 60
_FOOT = "q quits"


@app.command(rich_help_panel=PANEL)
@everywhere
def top(
    interval: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two readings.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one object a reading.")] = False,
) -> None:
    """Watch problems, rates, lag, freshness, event types, rollups, dead letters, the API and processes, live.

    On a terminal the screen is drawn anew until q is pressed; elsewhere there is one line a reading. What is away is
    said, and the rest goes on.
    """
    found = joined()
    from analytics_pipeline.overview.watch import Watch

    console = Console(highlight=False)
    watch = Watch(found)
    try:
        if once:
            _once(watch, console, as_json=as_json)
        elif console.is_terminal and sys.stdin.isatty() and not as_json:
            _live(watch, console, interval)
        else:
            _lines(watch, interval, as_json=as_json)
    except KeyboardInterrupt:
        return
    finally:
        watch.close()


def _once(watch: "Watch", console: Console, *, as_json: bool) -> None:
    watch.read()
    time.sleep(_FIRST_RATES)
    moment = watch.read()
    if as_json:
        print_json_line(moment.plain())
        return
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(screen(moment, console.width, _FILE_HEIGHT))


def _lines(watch: "Watch", interval: float, *, as_json: bool) -> None:
    while True:
        began = time.monotonic()
        moment = watch.read()
        if as_json:
            print_json_line(moment.plain())
        else:
            typer.echo(line(moment))
        time.sleep(max(0.0, interval - (time.monotonic() - began)))


def _live(watch: "Watch", console: Console, interval: float) -> None:
    watch.start(interval)
    drawn: object = None
    with (
        _keys() as pressed,
        Live(Text("reading …"), console=console, screen=True, auto_refresh=False) as live,
    ):
        while not pressed() & _QUIT:
            moment, size = watch.latest, console.size
            if moment is not None and (moment.at, size) != drawn:
                drawn = (moment.at, size)
                live.update(screen(moment, size.width, size.height, foot=_FOOT), refresh=True)


@contextmanager
def _keys() -> Iterator[Callable[[], set[str]]]:
    """What asks for single keys, without Enter and without showing them; it waits a moment for one."""

    def pressed() -> set[str]:
        ready, _, _ = select.select([sys.stdin], [], [], _TICK)
        return set(os.read(sys.stdin.fileno(), 64).decode("utf-8", "replace")) if ready else set()

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
