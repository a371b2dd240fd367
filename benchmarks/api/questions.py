"""What is asked, what a right answer is, and what was aimed at.

Belongs here: paths, checks, goals. Does not belong here: making the data (`data`), load and figures (`measuring`).
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from api.dashboard.schemas import Windows
from api.events.cursors import Cursor, Row
from api.times import format_time, parse_time
from benchmarks.api.data import DAY, HOUR, Stored

METRICS, DASHBOARD, EVENTS = "/api/v1/metrics", "/api/v1/dashboard/metrics", "/api/v1/events"
STATS = "/api/v1/events/stats"
PAGE = 100
DEEPEST = 10_000
NUMBER = "@N@"
"""Stands for six digits that make a question another one, which no cache has seen, but no other amount of work."""

NEW_YORK = ZoneInfo("America/New_York")
_VARIETY = 200
_MINUTE = timedelta(minutes=1)
_PLACES = """
SELECT timestamp, id FROM events WHERE timestamp >= %(start)s AND timestamp < %(end)s {condition}
ORDER BY timestamp DESC, id DESC OFFSET %(offset)s LIMIT %(limit)s
"""
_AFTER = """
SELECT id FROM events WHERE timestamp >= %(start)s AND (timestamp, id) < (%(at)s, %(id)s) {condition}
ORDER BY timestamp DESC, id DESC LIMIT %(limit)s
"""
_LIVE = """
SELECT {column} FROM metrics_live
WHERE metric_name = %(name)s AND interval = '1m' AND dimension_set = '' AND time_bucket >= %(start)s
    AND time_bucket < %(end)s
"""
_MOST = """
SELECT {column}, count(*) FROM events WHERE timestamp >= %(start)s AND timestamp < %(end)s AND {column} IS NOT NULL
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1
"""
BODY = (
    '{"event_type":"bench.posted","user_id":"trader-0042","session_id":"session-7781","properties":'
    '{"order_id":"ord-90817263","symbol":"BTCUSDT","side":"BUY","price":50123.25,"quantity":0.125}}'
)


@dataclass(frozen=True)
class Goal:
    """What is wanted at so many connections, without other programs."""

    connections: int
    p99_ms: float
    requests_per_second: int = 0


@dataclass(frozen=True)
class Case:
    """One kind of request.

    Attributes:
        name: in the table.
        paths: asked in turn; with `NUMBER` in it, each is asked once only.
        check: whether the decoded answer to the first path is right.
        body: what every body has to hold.
        cache: what X-Cache has to say; empty where nothing is cached.
        query: the name of the query in Prometheus that every request has to run.
        is_revalidated: whether each request has the entity tag of the answer, as from a client that has it already:
            the answer is 304, without a body.
        post: the body to POST.
        is_fixed: one path, answered from memory: judged by status and by the bytes of all answers.
        goals: by variant of the server.
    """

    name: str
    paths: tuple[str, ...]
    check: Callable[[Any], bool]
    body: str = ""
    cache: str = ""
    query: str | None = None
    is_revalidated: bool = False
    post: str = ""
    is_fixed: bool = False
    goals: Mapping[str, Goal] = field(default_factory=dict)


def cached(stored: Stored) -> Iterator[Case]:
    """Answers that are in memory; of moving ranges, one query a second and worker is not."""
    start, end = stored.today - DAY, stored.today
    fast = {"anonymous": Goal(32, 10, 18_000), "key and limit": Goal(32, 10, 6_000)}
    volume = stored.hourly("trading.total_volume", "sum")
    fixed = _metrics("trading.total_volume", "1h", format_time(start), format_time(end))
    yield Case(
        "metrics",
        (fixed,),
        lambda answer: _adds_up(answer, 24, 24 * volume),
        cache="hit",
        is_fixed=True,
        goals=fast,
    )
    yield Case(
        "metrics, the last 24 h",
        (f"{METRICS}?metric_name=trading.total_volume",),
        lambda answer: answer["result"]["total_count"] == 24,
        is_fixed=True,
    )
    yield Case("dashboard", (DASHBOARD,), lambda answer: _is_live(stored, answer), is_fixed=True, goals=fast)
    yield Case("304", (fixed,), lambda _: True, is_revalidated=True, is_fixed=True)
    stats = f"{STATS}?{_range(start, end)}"
    count = 24 * stored.events_per_hour
    yield Case("stats", (stats,), lambda answer: answer["total_events"] == count, cache="hit", is_fixed=True)


def uncached(stored: Stored) -> Iterator[Case]:
    """Questions that nobody has asked before, over data that is in the buffers of Postgres or of the system."""
    drawn = random.Random(1)
    whole_days = [stored.first + number * DAY for number in range((stored.today - stored.first) // DAY)]
    whole_hours = [stored.first + number * HOUR for number in range((stored.now - stored.first) // HOUR)]
    some_hours = drawn.sample(whole_hours, min(_VARIETY, len(whole_hours)))
    events, volume = stored.events_per_hour, stored.hourly("trading.total_volume", "sum")
    p99 = stored.hourly("trading.order_latency", "p99")
    soon, later = {"anonymous": Goal(1, 50)}, {"anonymous": Goal(1, 100)}

    def asked(
        name: str, metric: str, interval: str, starts: list[datetime], length: timedelta, points: int,
        check: Callable[[Any], bool], goals: Mapping[str, Goal], **more: str,
    ) -> Case:  # fmt: skip
        paths = tuple(
            _metrics(metric, interval, format_time(start), _just_before(start + length), **more)
            for start in starts
        )
        body = f'"total_count":{points},' if points else '"total_count":'
        return Case(f"metrics, {name}", paths, check, body, "miss", "metrics", goals=goals)

    def total(name: str, interval: str, starts: list[datetime], length: timedelta, points: int) -> Case:
        hours = length / HOUR
        return asked(
            name, "events.count", interval, starts, length, points,
            lambda answer: _adds_up(answer, points, hours * events), soon,
        )  # fmt: skip

    days = f"{len(whole_hours) / 24:.0f} d at 1h"
    yield total("1 h at 1m", "1m", some_hours, HOUR, 60)
    yield total("24 h at 1m", "1m", whole_days, DAY, 1440)
    yield total(days, "1h", [stored.first], stored.now - stored.first, len(whole_hours))
    until = stored.now + HOUR
    yield asked(
        "24 h until now at 1m", "events.count", "1m", [until - DAY], DAY, 1440,
        lambda answer: _adds_up(answer, 1440, _live(stored, "events.count", "sum(count)", until - DAY, until)), soon,
    )  # fmt: skip
    latency = {"aggregation": "p99"}
    yield asked(
        "p99, 24 h at 1m", "trading.order_latency", "1m", whole_days, DAY, 0,
        lambda answer: 60 < answer["result"]["total_count"] <= 1440, later, **latency,
    )  # fmt: skip
    yield asked(
        "p99, 24 h until now at 1m", "trading.order_latency", "1m", [until - DAY], DAY, 0,
        lambda answer: 60 < answer["result"]["total_count"] <= 1440, later, **latency,
    )  # fmt: skip
    yield asked(
        f"p99, {days}", "trading.order_latency", "1h", [stored.first], stored.now - stored.first, len(whole_hours),
        lambda answer: {point["value"] for point in answer["result"]["data_points"]} == {p99}, later, **latency,
    )  # fmt: skip
    yield asked(
        "by symbol, 24 h at 1h", "trading.total_volume", "1h", whole_days, DAY, 0,
        lambda answer: _adds_up(answer, None, 24 * volume), soon, group_by="symbol",
    )  # fmt: skip
    yield asked(
        f"by symbol, {days}", "trading.total_volume", "1h", [stored.first], stored.now - stored.first, 0,
        lambda answer: _adds_up(answer, None, len(whole_hours) * volume), soon, group_by="symbol",
    )  # fmt: skip
    yield asked(
        "by symbol, top 10, 24 h at 1h", "trading.total_volume", "1h", whole_days, DAY, 0,
        lambda answer: _adds_up(answer, None, 24 * volume), soon, group_by="symbol", top="10",
    )  # fmt: skip
    yield asked(
        f"by strategy, top 10, {days}", "trading.total_volume", "1h", [stored.first], stored.now - stored.first, 0,
        lambda answer: _adds_up(answer, None, len(whole_hours) * volume), soon, group_by="strategy_id", top="10",
    )  # fmt: skip
    first, number = zone_days(stored.first, stored.now, NEW_YORK)
    last = (first.astimezone(NEW_YORK) + number * DAY).astimezone(UTC)  # by the clock there, which may change
    there = {"time_zone": NEW_YORK.key}
    yield asked(
        f"{number} d of New York", "events.count", "1d", [first], last - first, number,
        lambda answer: _adds_up(answer, number, (last - first) / HOUR * events), later, **there,
    )  # fmt: skip
    yield asked(
        f"p99, {number} d of New York", "trading.order_latency", "1d", [first], last - first, number,
        lambda answer: all(
            math.isclose(point["value"], p99, rel_tol=0.2) for point in answer["result"]["data_points"]
        ), later, **there, **latency,
    )  # fmt: skip
    half_past = [start + HOUR / 2 for start in whole_days if start + DAY + HOUR / 2 <= stored.now]
    yield asked(
        "24 h at 1h of Kolkata", "events.count", "1h", half_past, DAY, 24,
        lambda answer: _adds_up(answer, 24, 24 * events), later, time_zone="Asia/Kolkata",
    )  # fmt: skip
    yield from _statistics(stored, soon)


def zone_days(start: datetime, end: datetime, zone: ZoneInfo) -> tuple[datetime, int]:
    """The first midnight of a zone in a range, in UTC, and how many whole days of the zone follow it there."""
    midnight = start.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    if midnight < start:
        midnight += DAY
    number = 0
    while (midnight + (number + 1) * DAY).astimezone(UTC) <= end:
        number += 1
    return midnight.astimezone(UTC), number


def dashboard(stored: Stored) -> Case:
    """The one question that cannot be asked in other words: asked of a server that has no cache."""
    goals = {"no cache": Goal(1, 20)}
    return Case("dashboard, uncached", (DASHBOARD,), lambda answer: _is_live(stored, answer), query="dashboard",
                body='"last_updated":', goals=goals)  # fmt: skip


def _statistics(stored: Stored, goals: Mapping[str, Goal]) -> Iterator[Case]:
    """Both ends are cut, so that raw events are counted too."""
    middle = stored.now - HOUR
    end = middle + timedelta(seconds=30)
    for name, start, interval in (
        ("24 h", end - DAY, None),
        (f"{(end - stored.first) / DAY:.0f} d", stored.first, None),
        ("24 h per 1h", end - DAY, "1h"),
        (f"{(end - stored.first) / DAY:.0f} d per 1d", stored.first, "1d"),
    ):
        asked = {"interval": interval} if interval else {}
        path = f"{STATS}?{urlencode({'start_time': format_time(start), **asked})}&end_time={_numbered(end)}"
        inside = math.ceil((start - stored.first) / HOUR)
        count = ((middle - stored.first) // HOUR - inside) * stored.events_per_hour + _raw(
            stored, middle, end
        )
        count += _raw(stored, start, stored.first + inside * HOUR)

        def is_right(answer: Any, least: int = count) -> bool:
            # Of a microsecond more than `end`, there may be an event more.
            return least <= answer["total_events"] <= least + 1 and (
                "buckets" not in answer
                or answer["total_events"] == sum(one["total_events"] for one in answer["buckets"])
            )

        yield Case(f"stats, {name}", (path,), is_right, '"total_events":', "miss", "stats", goals=goals)


def events(stored: Stored) -> Iterator[Case]:
    """Lists of events, at their beginning and as deep as they go; nothing of it is cached."""
    start, now, today = stored.raw_first, stored.now, stored.today
    soon = {"anonymous": Goal(1, 50)}
    yield from _walk(stored, "events", {}, "", start, now, (1, 100, DEEPEST), soon)
    filled = "AND event_type = 'order.filled'"
    yield from _walk(
        stored, "events by type", {"event_type": "order.filled"}, filled, start, now, (1, 1000), soon
    )
    for column in ("user_id", "session_id"):
        [[value, _]] = stored.rows(_MOST.format(column=column), start=start, end=start + HOUR)
        owned = f"AND {column} = '{value}'"
        name = f"events by {column.removesuffix('_id')}"
        yield from _walk(stored, name, {column: value}, owned, start, today, (1, 100), soon)
        yield from _walk(stored, f"{name}, the open day", {column: value}, owned, today, now, (1,), {})
    places = stored.rows(_PLACES.format(condition=""), start=start, end=now, offset=50_000, limit=_VARIETY)
    identities = [str(identity) for _, identity in places]
    yield Case(
        "events by id", tuple(f"{EVENTS}?id={one}" for one in identities),
        lambda answer: [one["id"] for one in answer["events"]] == identities[:1], '"count":1,', goals=soon,
    )  # fmt: skip
    yield Case(
        "one event", tuple(f"{EVENTS}/{one}" for one in identities),
        lambda answer: answer["id"] == identities[0], '"timestamp":', goals=soon,
    )  # fmt: skip
    symbol = 'AND properties @> \'{"symbol":"BTCUSDT"}\''
    wanted = {"property": "symbol:eq:BTCUSDT"}
    yield from _walk(stored, "events by property", wanted, symbol, start, now, (1, 100), {})


def post() -> Case:
    """One event a request, without an id, so that each is another."""
    return Case("POST", (EVENTS,), lambda answer: answer["success"] is True, '"success":true', post=BODY)


def _walk(
    stored: Stored, name: str, parameters: Mapping[str, str], condition: str, start: datetime, end: datetime,
    pages: tuple[int, ...], goals: Mapping[str, Goal],
) -> Iterator[Case]:  # fmt: skip
    """A case for each of these pages; of a shorter list, its last full one is the last."""
    [[count]] = stored.rows(
        f"SELECT count(*) FROM events WHERE timestamp >= %(start)s AND timestamp < %(end)s {condition}",
        start=start, end=end,
    )  # fmt: skip
    last = max(1, (count - _VARIETY) // PAGE)
    for page in dict.fromkeys(min(page, last) for page in pages):
        query = urlencode({**parameters, "limit": str(PAGE)})
        offset = (page - 1) * PAGE - 1
        if page == 1:
            expected = stored.rows(
                _PLACES.format(condition=condition), start=start, end=end, offset=0, limit=PAGE
            )
            paths = [f"{EVENTS}?{query}&{_range(start, end)}"]
            ids = [identity for _, identity in expected]
        else:
            span = {"start": start, "end": end, "offset": offset, "limit": _VARIETY}
            places = [Row(*row) for row in stored.rows(_PLACES.format(condition=condition), **span)]
            paths = [f"{EVENTS}?{query}&cursor={Cursor(row, start, end).text()}" for row in places]
            after = {"start": start, "at": places[0].timestamp, "id": places[0].id, "limit": PAGE}
            ids = [identity for (identity,) in stored.rows(_AFTER.format(condition=condition), **after)]

        def is_right(answer: Any, ids: list[UUID] = ids) -> bool:
            return [one["id"] for one in answer["events"]] == [str(identity) for identity in ids]

        body = f'"count":{len(ids)},'
        yield Case(f"{name}, page {page:,}", tuple(paths), is_right, body, goals=goals)


def _adds_up(answer: Any, points: int | None, expected: float) -> bool:
    found = answer["result"]["data_points"]
    return (points is None or len(found) == points) and math.isclose(
        math.fsum(point["value"] for point in found), expected, rel_tol=1e-9
    )


def _is_live(stored: Stored, answer: Any) -> bool:
    """The ten fields, and two of them by SQL."""
    windows = Windows(parse_time(answer["last_updated"]))
    placed = _live(stored, "trading.orders_placed", "sum(count)", windows.hour, windows.end)
    volume = _live(stored, "trading.total_volume", "sum(sum)", windows.hour, windows.end)
    return (
        len(answer) == 10
        and answer["orders_placed"] == placed > 0
        and math.isclose(answer["total_volume"], volume, rel_tol=1e-9)
        and answer["active_users"] > 0
    )


def _live(stored: Stored, name: str, column: str, start: datetime, end: datetime) -> float:
    [[value]] = stored.rows(_LIVE.format(column=column), name=name, start=start, end=end)
    return float(value)


def _raw(stored: Stored, start: datetime, end: datetime) -> int:
    [[count]] = stored.rows(
        "SELECT count(*) FROM events WHERE timestamp >= %(start)s AND timestamp < %(end)s",
        start=start,
        end=end,
    )
    return int(count)


def _metrics(name: str, interval: str, start: str, end: str, **more: str) -> str:
    asked = urlencode({"metric_name": name, "interval": interval, "start_time": start, **more})
    return f"{METRICS}?{asked}&end_time={end}"


def _range(start: datetime, end: datetime) -> str:
    return urlencode({"start_time": format_time(start), "end_time": format_time(end)})


def _just_before(end: datetime) -> str:
    """A time in the last minute before the end of a bucket: the bucket behind it is not among the points."""
    return _numbered(end - _MINUTE)


def _numbered(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{NUMBER}Z"
