"""Who works on rollups at the same time: each as one call, on connections of its own that are named after it."""

import json
import random
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import Message, RawBatch
from analytics_pipeline.events.posted import decode_posted
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.settings import Retention
from analytics_pipeline.storage import backfill, buckets, retention, rollups
from analytics_pipeline.storage.connection import Connection, connect, connection
from analytics_pipeline.storage.landing import Landed, Lander
from analytics_pipeline.storage.recompute import RecomputeResult, recompute_hour
from analytics_pipeline.storage.rollups import MergeResult
from tests.integration.landing_rig import claim, decode, message, span
from tests.integration.test_landing_inbox import post

NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
DAY = TODAY - timedelta(days=1)
HOUR, NEXT = DAY + timedelta(hours=10), DAY + timedelta(hours=11)
OLD_DAY = TODAY - timedelta(days=2)
OLD = OLD_DAY + timedelta(hours=7)
KEEP = Retention(raw_events="1d")
"""Lets go of `OLD_DAY` and keeps `DAY`."""
LIMITS = Limits(raw_retention=timedelta(days=9))
_MINUTES = (0, 1, 4, 14, 30, 59)
"""In one bucket of 5m, in several, at both ends of an hour. Not all: a recompute costs what its series cost."""


def sent(hour: datetime, seed: int, count: int = 24) -> list[dict[str, Any]]:
    """Events in some minutes of an hour; the same seed gives the same ones."""
    chance = random.Random(seed)
    return [
        _event(chance, hour + timedelta(minutes=chance.choice(_MINUTES), seconds=chance.randrange(60)))
        for _ in range(count)
    ]


def _event(chance: random.Random, at: datetime) -> dict[str, Any]:
    kind = chance.choice(["order.placed", "order.filled", "order.filled", "order.rejected", "user.login"])
    properties: dict[str, Any] = {
        "symbol": chance.choice(["BTCUSDT", "ETHUSDT"]),
        "price": chance.randrange(1, 10_000_000) / 100,
        "quantity": chance.randrange(1, 3000) / 1000,
    }
    if kind == "order.filled":
        properties["latency_ms"] = chance.randrange(100_000) / 1000
    return {
        "event_type": kind,
        "id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "user_id": f"user-{chance.randrange(40)}",
        "properties": properties,
        "timestamp": (at + timedelta(microseconds=chance.randrange(1_000_000))).isoformat(),
    }


class Actors:
    """Of one database. A name is that of the connection too, unless the product gives it one of its own."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self._landers: dict[str, Lander] = {}

    def __enter__(self) -> "Actors":
        return self

    def __exit__(self, *_: object) -> None:
        for lander in self._landers.values():
            lander.close()

    def lander(self, name: str) -> Lander:
        if name not in self._landers:
            self._landers[name] = Lander(self.conninfo, name=f"landing-{name}")
        return self._landers[name]

    def land(self, name: str, events: Sequence[dict[str, Any]]) -> Landed:
        """From Kafka, on a partition that nobody else owns."""
        source = f"orders.{name}"
        owner = claim(self.conninfo, (source, 0))
        messages = [message(owner.next_offset + at, event) for at, event in enumerate(events)]
        batch = RawBatch(source, 0, messages)
        return self.lander(name).land([span(owner, messages, source)], decode([batch], LIMITS))

    def post(self, events: Sequence[dict[str, Any]]) -> None:
        """Into the inbox."""
        now = datetime.now(UTC)
        post(
            self.conninfo,
            [decode_posted(json.dumps(event).encode(), now=now, limits=LIMITS).payload for event in events],
        )

    def land_inbox(self, name: str) -> Landed | None:
        def decoded(messages: Sequence[Message]) -> Any:
            return decode([RawBatch("http", 0, messages)], LIMITS)

        return self.lander(name).land_inbox(1000, decoded)

    def merge(self, name: str, hour: datetime) -> MergeResult | None:
        with self.connected(name) as opened:
            return rollups.merge_hour(opened, hour, run_id=name)

    def recompute(self, hour: datetime, *, write: bool = True) -> RecomputeResult:
        """On connections named `recompute`."""
        return recompute_hour(self.conninfo, hour, run_id="recompute", write=write)

    def backfill(self, name: str, hours: Sequence[datetime]) -> int:
        """Of all metrics; recomputes on connections named `recompute`. How many hours it did."""
        with self.connected(name) as opened:
            planned = backfill.plan(opened, hours)
            results = backfill.carry_out(
                opened, self.conninfo, planned, run_id=name, before_hour=lambda: None
            )
            return len(list(results))

    def finalize(self, name: str, now: datetime = NOW) -> int:
        with self.connected(name) as opened:
            caught_up(opened)
            return buckets.finalize_buckets(
                opened, now=now, graces=dict.fromkeys(LEVELS, timedelta(seconds=30)), run_id=name
            )

    def retain(self, name: str) -> list[tuple[str, str]]:
        """By the asset; what became of each partition of events."""
        with self.connected(name) as opened:
            outcomes = retention.remove_expired(opened, now=NOW, run_id=name)
        return [(each.partition, each.action) for each in outcomes if each.partition.startswith("events_p")]

    def cleanup(self, name: str) -> list[tuple[str, str, str | None]]:
        """By plain SQL; partition, action and reason."""
        with self.connected(name) as opened:
            return opened.execute("SELECT partition, action, reason FROM cleanup_old_data()").fetchall()

    def connected(self, name: str) -> AbstractContextManager[Connection]:
        """A connection of that name."""
        return connection(self.conninfo, name=name, autocommit=True)


def prepare(conninfo: str) -> None:
    """Three hours that are partly settled, partly final and partly pending, in two days, of which retention takes one.

    Of `HOUR`, some buckets are final, others open; both have pending deltas. `NEXT` has settled and pending ones.
    `OLD` lies in the day that is to go.
    """
    with Actors(conninfo) as actors, connect(conninfo, name="test", autocommit=True) as opened:
        actors.land("setup", [*sent(HOUR, 1, 12), *sent(NEXT, 2), *sent(OLD, 3)])
        for hour in (HOUR, NEXT, OLD):
            rollups.merge_hour(opened, hour, run_id="setup")
        assert actors.finalize("test") > 0
        actors.land("setup", sent(HOUR, 4))
        rollups.merge_hour(opened, HOUR, run_id="setup")
        actors.land("setup", [*sent(HOUR, 5), *sent(NEXT, 6), *sent(OLD, 7)])
        retention.write_policies(opened, KEEP)
        opened.execute("UPDATE retention_state SET raw_floor = '1970-01-01+00'")


def caught_up(opened: Connection) -> None:
    """All sources are past everything, so that buckets may become final."""
    opened.execute("UPDATE ingest_offsets SET caught_up_at = now() + interval '1 day'")
