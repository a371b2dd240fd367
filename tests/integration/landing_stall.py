"""How long landings take while retention waits for somebody who reads the table: with the real landing code."""

import threading
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from analytics_pipeline.settings import Retention
from analytics_pipeline.storage import retention
from analytics_pipeline.storage.connection import connect
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.partitions import ensure_range
from tests.integration.landing_rig import claim, event, land, message, value
from tests.integration.stepping import Doing
from tests.waiting import wait_for

_SOURCE = "orders.stalled"
_BATCH = 100
_WARM = 20
_READING = """
SELECT count(*) FROM pg_stat_activity WHERE application_name = 'analytics-reader' AND state = 'active'
"""
_WAITING = "SELECT count(*) FROM time_partitions WHERE is_detaching"


@dataclass
class Stall:
    """Seconds that each landing took while the table was held, and how many days retention removed afterwards."""

    seconds: list[float]
    dropped: int

    def quantile(self, share: float) -> float:
        """Of the landings, such as 0.99."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def __str__(self) -> str:
        shown = ", ".join(f"p{share * 100:g} {1000 * self.quantile(share):.0f} ms" for share in (0.5, 0.99))
        return f"{len(self.seconds)} landings of {_BATCH} events: {shown}, longest {1000 * max(self.seconds):.0f} ms"


def measure(conninfo: str, hold: float) -> Stall:
    """Land without pause while a query that has read `events` goes on for `hold` seconds and retention removes days."""
    now, stop = datetime.now(UTC), threading.Event()
    with connect(conninfo, name="test", autocommit=True) as db:
        ensure_range(db, now - timedelta(days=6), now)
    timed: list[tuple[float, float]] = []
    landings = Doing("landings", lambda: _land_until(conninfo, stop, timed))
    try:
        wait_for(lambda: len(timed) >= _WARM or landings.has_ended, 30, "landings go on")
        reader = Doing("reader", lambda: _read(conninfo, hold))
        wait_for(lambda: value(conninfo, _READING), 10, "the query has begun")
        begun = time.monotonic()
        removal = Doing("retention", lambda: _remove(conninfo, now))
        wait_for(lambda: value(conninfo, _WAITING) or reader.has_ended, 10, "retention waits for the query")
        wait_for(lambda: reader.has_ended, hold + 20, "the query ends")
        ended = time.monotonic()
        dropped = removal.result()
    finally:
        stop.set()
    landings.result()
    return Stall([took for at, took in timed if at + took > begun and at < ended], dropped)


def _land_until(conninfo: str, stop: threading.Event, timed: list[tuple[float, float]]) -> None:
    owner, number = claim(conninfo, (_SOURCE, 0)), 0
    with closing(Lander(conninfo, name="landing-stalled")) as lander:
        while not stop.is_set():
            messages = [message(owner.next_offset + n, event(number + n)) for n in range(_BATCH)]
            number += _BATCH
            at = time.monotonic()
            _, owner = land(lander, owner, messages, source=_SOURCE)
            timed.append((at, time.monotonic() - at))


def _read(conninfo: str, hold: float) -> None:
    with connect(conninfo, name="reader", autocommit=True) as reader:
        reader.execute("SELECT pg_sleep(%s) FROM (SELECT count(*) FROM events) AS seen", (hold,))


def _remove(conninfo: str, now: datetime) -> int:
    with connect(conninfo, name="retention", autocommit=True) as connection:
        retention.write_policies(connection, Retention(raw_events="3d"))
        outcomes = retention.remove_expired(connection, now=now, run_id="stall")
    return sum(each.action == "dropped" and each.partition.startswith("events_p") for each in outcomes)
