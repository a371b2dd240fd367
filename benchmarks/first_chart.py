"""How long it takes from a clone to the first chart: `make bench-start`.

Clones this checkout into a temporary folder, does there what the page on starting says (`make up`), with free ports,
and opens the dashboard in a headless Chromium once `make up` says that everything is ready, as a person would. Measured
from the beginning of the clone is when

- packages are installed, and the first service is started;
- the API answers, and everything is ready;
- the first chart is drawn, and all charts of the overview are.

What pip and jgo, which brings Kafka, have in the caches of this machine is used; `--cold` gives them an empty home, so
that every package and Kafka are downloaded, which measures the network as well. Exit code 1 if the first chart takes
longer than three minutes, or nothing comes up.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page

from analytics_pipeline.settings import environment
from benchmarks import output
from benchmarks.books import Refused
from benchmarks.costs import machine
from documentation import browser
from tests.e2e.local import PORTS, ROOT

LONGEST = 180.0
"""Seconds from the clone to the first chart."""
_PATIENCE_MS = 60_000
_LONGEST_START = 1200.0
_STOPS_WITHIN = 120.0
_CACHES = ("PIP_CACHE_DIR", "XDG_CACHE_HOME")
_DRAWN = "[data-panel] .js-plotly-plot .main-svg"
_FILLED = "[data-panel]:has(.js-plotly-plot .main-svg)"
_STAGES = (
    ("cloned", "cloned"),
    ("installed", "packages installed, first service started"),
    ("api", "the API answers"),
    ("ready", "everything is ready"),
    ("first_chart", "first chart drawn"),
    ("all_charts", "all charts drawn"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_chart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cold", action="store_true", help="download every package, and Kafka")
    output.add_option(parser, "start")
    arguments = parser.parse_args()
    output.prepare(arguments.json)
    program = browser.required()
    folder = Path(tempfile.mkdtemp(prefix="b25-start-", dir="/tmp"))
    found: dict[str, Any] = {"machine": machine(), "cold": arguments.cold}
    try:
        found["seconds"] = _measure(folder, program, cold=arguments.cold)
    except (Refused, Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found["broken"] = found["seconds"]["first_chart"] > LONGEST
    output.conclude(arguments.json, found, _table(found))
    return 1 if found["broken"] else 0


def _measure(folder: Path, program: str, *, cold: bool) -> dict[str, float]:
    began = time.monotonic()

    def passed() -> float:
        return round(time.monotonic() - began, 1)

    clone = folder / "analytics"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    seconds = {"cloned": passed()}
    with _made_up(clone, folder / "home" if cold else None) as lines:
        address = ""
        for line in lines:
            if "installed" not in seconds and line.startswith(("postgres ", "kafka ", "redis ")):
                seconds["installed"] = passed()
            if line.startswith("api ") and "ready" in line:
                seconds["api"] = passed()
            if line.startswith("everything is ready"):
                seconds["ready"] = passed()
            if line.strip().startswith("Dashboard "):
                address = line.split()[-1]
                break
        if not address:
            raise Refused("`make up` ended before everything was ready; what it printed is above")
        with browser.running(program) as opened:
            page = opened.new_page()
            page.goto(address, timeout=_PATIENCE_MS)
            page.wait_for_selector(_DRAWN, timeout=_PATIENCE_MS)
            seconds["first_chart"] = passed()
            _wait_for_all(page)
            seconds["all_charts"] = passed()
    return seconds


def _wait_for_all(page: Page) -> None:
    panels = page.locator("[data-panel]").count()
    page.locator(_FILLED).nth(panels - 1).wait_for(timeout=_PATIENCE_MS)


@contextmanager
def _made_up(clone: Path, home: Path | None) -> Iterator[Iterator[str]]:
    """The lines of `make up` in a clone, and its end with the context."""
    variables = {name: value for name, value in environment().items() if not name.startswith("B25_")}
    variables |= {f"B25_{port}": "0" for port in PORTS}
    # Of the clone alone: what runs this benchmark is not to lend it its packages.
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", *(_CACHES if home else ())):
        variables.pop(name, None)
    if home is not None:
        home.mkdir()
        variables |= {"HOME": str(home), "PIP_NO_CACHE_DIR": "1"}
    running = subprocess.Popen(
        ["make", "up"],
        cwd=clone,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    limit = threading.Timer(_LONGEST_START, os.killpg, (running.pid, signal.SIGINT))
    limit.start()
    try:
        yield _shown(running.stdout)
    finally:
        limit.cancel()
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGINT)
        # What it still says is read, or it could not end.
        running.communicate(timeout=_STOPS_WITHIN)


def _shown(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        print(f"  {line}", end="", flush=True)
        yield line


def _table(found: dict[str, Any]) -> str:
    caches = (
        "nothing cached" if found["cold"] else "packages and Kafka as far as this machine has them cached"
    )
    lines = [f"s since the clone began; {caches}"]
    lines += [f"  {what:42} {found['seconds'].get(name, float('nan')):6.1f}" for name, what in _STAGES]
    lines.append(f"  (must: first chart ≤ {LONGEST:g})")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
