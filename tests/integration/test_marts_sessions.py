"""`user_behavior` against plain Python on the same events, whatever order they land in."""

import random
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

import pytest

from analytics_pipeline.storage.connection import Connection
from tests.integration.landed import Event, land
from tests.integration.marts import MIDNIGHT, build_marts, check_in_any_order, let_time_pass, merge_all, rows

MART = "user_behavior"
ACTUAL = """
SELECT user_id, session_id, session_start, session_end, duration, page_views, event_count, unique_event_types,
    properties
FROM user_behavior
"""


def random_event(chance: random.Random, at: datetime) -> Event:
    return Event(
        chance.choice(["page.view", "page.view", "button.click", "user.login", 'odd."type"']),
        at + timedelta(microseconds=chance.randrange(3)),
        {},
        user_id=chance.choice(["u1", "u2", "u3", "", None]),
        session_id=chance.choice(["s1", "s2", 's"3', "", None]),
    )


def expected(events: list[Event]) -> dict[tuple[str, str], tuple[Any, ...]]:
    held: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event.user_id and event.session_id:
            held[event.user_id, event.session_id].append(event)
    return {key: session(found) for key, found in held.items()}


def session(events: list[Event]) -> tuple[Any, ...]:
    start, end = min(e.timestamp for e in events), max(e.timestamp for e in events)
    types = Counter(e.event_type for e in events)
    seconds = (end - start) // timedelta(seconds=1)
    return start, end, seconds, types["page.view"], len(events), len(types), {"event_types": dict(types)}


def assert_equal(db: Connection, events: list[Event]) -> None:
    actual = rows(db, ACTUAL)
    assert {row[:2]: row[2:] for row in actual} == expected(events)
    assert len(actual) == len(expected(events))


@pytest.mark.slow
def test_sessions_equal_python_whatever_order_their_events_land_in(db):
    check_in_any_order(db, MART, random_event, assert_equal)


@pytest.mark.slow
def test_a_run_rewrites_only_sessions_with_something_new(db):
    def view(session_id: str, seconds: int) -> Event:
        return Event("page.view", MIDNIGHT + timedelta(seconds=seconds), {}, "u1", session_id)

    events = [view("quiet", 0), view("busy", 60)]
    land(db, events)
    merge_all(db)
    assert build_marts("run", MART)
    let_time_pass(db)
    updated = "SELECT updated_at, created_at FROM user_behavior WHERE session_id = %s"
    before = rows(db, updated, "quiet"), rows(db, updated, "busy")
    # earlier than what is there, and in the month before: the row moves
    late = view("busy", -600)
    land(db, [late])
    assert build_marts("run", MART)
    [(now, created)] = rows(db, updated, "busy")
    assert rows(db, updated, "quiet") == before[0]
    assert now > before[1][0][0]
    assert created == before[1][0][1]
    assert_equal(db, [*events, late])
