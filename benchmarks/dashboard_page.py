"""How far the dashboard is behind and what it keeps, in a real Chromium, while events land: `make bench-page`.

Starts a whole stack with free ports in a temporary folder, sends it events at a rate (`benchmarks.replayed`), and
leaves two views of the page open side by side: the overview of the last quarter of an hour, and the event tail of one
event type. Every few seconds one event of that type and of a user that nobody has seen is sent through Kafka. Measured
is

- how long after that the tail has its row, and how long after that the tile of active users has counted its user;
- what the overview keeps: the heap after a garbage collection, nodes and listeners, once a minute. A chart of a range
  that is filling has more nodes every minute, so only what comes after a quarter of an hour tells of what is kept;
- the memory of the API.

Times are those of one clock, and begin before the event is handed to the producer. Exit code 1 if one of them is over
2 s for more than 1 in 100, or if the page keeps more in the last quarter than in the second, by more than a tenth (and
2 MB, 200 nodes, 20 listeners): the first minutes fill charts and caches.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from statistics import median
from typing import Any

import msgspec
import psutil
from confluent_kafka import Producer
from playwright.sync_api import Browser, CDPSession, Page

from analytics_pipeline.events.times import format_time
from benchmarks import output
from benchmarks.books import READ, Refused
from benchmarks.costs import machine, used_by
from benchmarks.whole_stack import whole_stack
from documentation import browser
from tests.e2e.local import ROOT, Pipe, Stack, event

BEHIND = 2.0
"""Seconds that what is seen may be behind."""
GROWTH = 0.1
TOPIC = "trading.events"
PROBE = "bench.probe"
EVERY = 5.0
"""Seconds from one probe to the next: each is seen before the next is sent."""
_LARGEST_SHARE_BEHIND = 0.01
_SETTLING = 60.0
"""Seconds before the first figure, in which charts are drawn for the first time."""
# What the overview keeps: its key, what it is, the unit it is shown in, and the smallest growth that breaks the bound;
# None: it is shown alone.
_KEPT: tuple[tuple[str, str, int, int | None], ...] = (
    ("heap", "heap, MB", 2**20, 2 * 2**20),
    ("nodes", "nodes", 1, 200),
    ("listeners", "listeners", 1, 20),
    ("api_rss", "API, MB", 2**20, None),
)
_SEEN_ROWS = """
() => {
  window.seenRows = {};
  const note = (node) => {
    for (const [found] of (node.textContent || "").matchAll(/probe-[0-9]+/g)) window.seenRows[found] ??= Date.now();
  };
  note(document.body);
  new MutationObserver((changes) => {
    for (const change of changes) {
      if (change.type === "characterData") note(change.target);
      for (const node of change.addedNodes) note(node);
    }
  }).observe(document.body, { childList: true, characterData: true, subtree: true });
}
"""
_SEEN_USERS = """
() => {
  window.seenUsers = [];
  const tile = document.querySelector("[data-tile=active_users]");
  const note = () => {
    const number = Number(tile.title.replaceAll(/[^0-9]/g, ""));
    if (window.seenUsers.at(-1)?.[1] !== number) window.seenUsers.push([Date.now(), number]);
    if (window.seenUsers.length > 100) window.seenUsers.shift();
  };
  note();
  new MutationObserver(note).observe(tile, { attributes: true, attributeFilter: ["title"] });
}
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dashboard_page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=10_000, help="events per second")
    output.add_option(parser, "page")
    arguments = parser.parse_args()
    output.prepare(arguments.json)
    program = browser.required()
    found: dict[str, Any] = {"machine": machine(), "rate_asked": arguments.rate, "minutes": arguments.minutes}
    print("starting", flush=True)
    try:
        with (
            whole_stack("--no-simulator", B25_SIMULATOR__HISTORY="0s") as stack,
            _load(stack, arguments.rate),
            browser.running(program) as opened,
        ):
            found |= _watch(stack, opened, arguments.minutes)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    found["broken"] = _broken(found)
    output.conclude(arguments.json, found, _table(found))
    return 1 if found["broken"] else 0


@contextmanager
def _load(stack: Stack, rate: float) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.replayed", stack.address("kafka"), str(rate)]
    load = subprocess.Popen(command, cwd=ROOT, env=stack.variables)
    try:
        yield
    finally:
        load.terminate()
        load.wait()


def _watch(stack: Stack, chromium: Browser, minutes: float) -> dict[str, Any]:
    pipe = Pipe(stack)
    base, api = stack.address("api"), psutil.Process(stack.status()["processes"]["api"]["pid"])
    context = chromium.new_context(locale="en-GB")
    producer = Producer({"bootstrap.servers": pipe.kafka, "enable.idempotence": True, "linger.ms": 0})
    overview, tail = context.new_page(), context.new_page()
    overview.goto(f"{base}/dashboard?range=15m")
    tail.goto(f"{base}/dashboard/events?event_type={PROBE}")
    overview.wait_for_selector("[data-tile=active_users][title]")
    time.sleep(_SETTLING)
    overview.evaluate(_SEEN_USERS)
    tail.evaluate(_SEEN_ROWS)
    session = context.new_cdp_session(overview)
    session.send("Performance.enable")
    rows: list[float | None] = []
    users: list[float] = []
    kept: list[dict[str, float]] = []
    landed, began = _landed(pipe), time.monotonic()
    number = 0
    while (passed := time.monotonic() - began) < minutes * 60:
        if passed >= 60 * len(kept):
            kept.append(_kept(session) | {"api_rss": used_by(api)[1]})
            print(f"{passed:6.0f} s  {_line(rows, users, kept[-1])}", flush=True)
        number += 1
        known = _users(overview)
        sent = _send(producer, number)
        time.sleep(EVERY)
        rows.append(_row_seen(tail, number, sent))
        users += _user_seen(overview, known, sent)
    seconds = time.monotonic() - began
    return {
        "events_per_second": round((_landed(pipe) - landed) / seconds, 1),
        "probes": number,
        "rows_s": rows,
        "users_s": users,
        "kept": kept,
    }


def _send(producer: Producer, number: int) -> float:
    """One event of a new user; when it was handed over, in ms since 1970."""
    at = datetime.now(UTC)
    sent = event(PROBE, at) | {"user_id": f"probe-{number}", "timestamp": format_time(at)}
    producer.produce(TOPIC, msgspec.json.encode(sent))
    producer.poll(0)
    return at.timestamp() * 1000


def _row_seen(tail: Page, number: int, sent: float) -> float | None:
    """Seconds until the tail had its row; None: it had not before the next was sent."""
    at = tail.evaluate("(name) => window.seenRows[name] ?? null", f"probe-{number}")
    return None if at is None else round((at - sent) / 1000, 3)


def _users(overview: Page) -> int:
    """What the tile says now."""
    number: int = overview.evaluate("() => window.seenUsers.at(-1)[1]")
    return number


def _user_seen(overview: Page, known: int, sent: float) -> list[float]:
    """Seconds until the tile said more than before; none where a minute began around it.

    Then those leave whose last event is over five minutes old, a dozen earlier probes among them, and the tile says
    less although it has counted one more. It may say so up to `BEHIND` later, and `known` is what it said before.
    """
    if (sent - 1000 * EVERY) // 60_000 != (sent + 1000 * EVERY) // 60_000:
        return []
    changes: list[tuple[float, int]] = overview.evaluate("() => window.seenUsers")
    at = next((at for at, number in changes if at >= sent and number > known), None)
    return [EVERY if at is None else round((at - sent) / 1000, 3)]


def _kept(session: CDPSession) -> dict[str, float]:
    session.send("HeapProfiler.collectGarbage")
    told = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return {
        "heap": told["JSHeapUsedSize"],
        "nodes": told["Nodes"],
        "listeners": told["JSEventListeners"],
    }


def _landed(pipe: Pipe) -> int:
    return int(pipe.sql(READ)[0][0])


def _broken(found: dict[str, Any]) -> list[str]:
    broken = []
    for name, what in (("rows_s", "the row of an event"), ("users_s", "the number of users")):
        every = found[name]
        late = [one for one in every if one is None or one > BEHIND]
        if len(late) > _LARGEST_SHARE_BEHIND * len(every):
            broken.append(f"{what} was more than {BEHIND:g} s behind in {len(late)} of {len(every)} cases")
    for name, what, unit, smallest in _KEPT:
        before, after = _quarters(found["kept"], name)
        if smallest is not None and after - before > max(GROWTH * before, smallest):
            broken.append(f"{what} grew from {before / unit:.1f} to {after / unit:.1f}")
    return broken


def _quarters(kept: Sequence[dict[str, float]], name: str) -> tuple[float, float]:
    """The median of the second quarter, and of the last."""
    quarter = max(1, len(kept) // 4)
    every = [one[name] for one in kept]
    return median(every[quarter : 2 * quarter] or every), median(every[-quarter:])


def _line(rows: Sequence[float | None], users: Sequence[float], kept: dict[str, float]) -> str:
    return (
        f"row {_worst(rows)}, users {_worst(users)} s at worst; heap {kept['heap'] / 2**20:.1f} MB,"
        f" {kept['nodes']:.0f} nodes, {kept['listeners']:.0f} listeners; API {kept['api_rss'] / 2**20:.0f} MB"
    )


def _worst(seconds: Sequence[float | None]) -> str:
    return (
        "not seen"
        if None in seconds
        else f"{max((one for one in seconds if one is not None), default=0):.2f}"
    )


def _table(found: dict[str, Any]) -> str:
    lines = [
        f"{found['events_per_second']:,} events/s landed (asked {found['rate_asked']:g}), {found['probes']} probes"
    ]
    for name, what in (("rows_s", "row in the event tail"), ("users_s", "tile of active users")):
        every = sorted(EVERY if one is None else one for one in found[name])
        if every:
            p99 = every[min(len(every) - 1, int(0.99 * len(every)))]
            lines.append(
                f"  {what:24} p50 {median(every):.2f} s, p99 {p99:.2f} s, max {every[-1]:.2f} s behind"
                f" (must: p99 ≤ {BEHIND:g})"
            )
    for name, what, unit, _ in _KEPT:
        before, after = (amount / unit for amount in _quarters(found["kept"], name))
        lines.append(f"  {what:24} {before:.1f} in the second quarter, {after:.1f} in the last")
    return "\n".join([*lines, *found["broken"]])


if __name__ == "__main__":
    sys.exit(main())
