"""What a person sees while the stack runs: steps, addresses, then one status line.

On a terminal the line is redrawn every second; elsewhere (a log, a pipe) a plain line comes every ten seconds.

Belongs here: words and layout. Does not belong here: deciding anything.
"""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from analytics_pipeline.local_stack.pulse import Sample

_PLAIN_INTERVAL = 10.0


class Display:
    """One screen; methods may be called from any thread."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._live: Live | None = None
        self._last_plain = 0.0

    @property
    def how_to_stop(self) -> str:
        """What a person does here to end it all."""
        return "Ctrl-C" if self.console.is_terminal else "`analytics down`"

    def step(self, text: str) -> None:
        """What is being waited for now, until something replaces it; only terminals show it."""
        if self.console.is_terminal:
            self._show(Spinner("dots", Text(text)))

    def event(self, name: str, text: str) -> None:
        """Something happened to a service: a line that stays."""
        self.console.print(Text.assemble((f"{name:<18}", "bold"), text), soft_wrap=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)

    def addresses(self, found: Mapping[str, str | None], folder: str) -> None:
        """Where to look first."""
        labels = {
            "api": ("REST API", "/docs explains it"),
            "dagster": ("Dagster", "assets, runs, backfills"),
            "metrics": ("Prometheus", ""),
            "health": ("Health", ""),
            "kafka": ("Kafka", ""),
            "postgres": ("Postgres", "with its password: analytics status --json"),
            "redis": ("Redis", ""),
        }
        self.console.print()
        if found.get("api"):
            self._address("Dashboard", f"{found['api']}/dashboard")
        for key, (label, remark) in labels.items():
            address = found.get(key)
            if address:
                self._address(label, without_password(address), remark)
        self.console.print(f"  {'Logs':<12} {folder}", soft_wrap=True)
        self.console.print()

    def _address(self, label: str, address: str, remark: str = "") -> None:
        line = Text.assemble(f"  {label:<12} ", (address, "bold"), (f"  {remark}" if remark else "", "dim"))
        self.console.print(line, soft_wrap=True)

    def status(self, sample: Sample, troubles: Mapping[str, str]) -> None:
        """The status line; `troubles`: state by name of every service that isn't running."""
        line = Text(status_line(sample))
        for name, state in troubles.items():
            line.append(f"  {name} {state}", style="bold red")
        if self.console.is_terminal:
            self._show(line)
        elif time.monotonic() - self._last_plain >= _PLAIN_INTERVAL:
            self._last_plain = time.monotonic()
            self.console.print(line, soft_wrap=True)

    def pause(self) -> None:
        """Remove the moving line."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, content: Spinner | Text) -> None:
        if self._live is None:
            self._live = Live(content, console=self.console, refresh_per_second=8, transient=True)
            self._live.start()
        else:
            self._live.update(content)


def status_line(sample: Sample) -> str:
    """One line of numbers."""
    if sample.problem:
        return sample.problem
    lag = "?" if sample.lag is None else f"{sample.lag:,}"
    fresh = "?" if sample.fresh is None else f"{sample.fresh:.1f} s"
    return (
        f"in {sample.rate:,.0f}/s   stored {sample.stored:,}   duplicates {sample.duplicate:,}   "
        f"dead letters {sample.dead:,}   lag {lag}   fresh {fresh}"
    )


def without_password(address: str) -> str:
    """A URL as it may be shown."""
    scheme, separator, rest = address.partition("://")
    credentials, at, place = rest.rpartition("@")
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}{at if user else ''}{place.partition('?')[0]}"
