"""Deltas that were computed before the transaction are written only if every event of the batch is stored by it."""

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.ingest.landing_thread import LandingThread
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.offsets import Claim
from tests.integration.landing_rig import (
    SOURCE,
    check_books,
    claim,
    decode,
    event,
    execute,
    message,
    span,
    value,
)

LIMIT = 20.0


@pytest.fixture
def thread(database: str) -> Iterator[LandingThread]:
    made = LandingThread(Lander(database, name="landing-test"))
    yield made
    made.close()


START = datetime.now(UTC)


def event_at(number: int) -> dict[str, Any]:
    """Each odd one is 13 hours old."""
    age = timedelta(hours=13 if number % 2 else 0, seconds=10)
    return event(number, timestamp=(START - age).isoformat())


def lands(thread: LandingThread, owner: Claim, numbers: Iterable[int]) -> None:
    sent = [message(owner.next_offset + at, event_at(number)) for at, number in enumerate(numbers)]
    thread.launch([span(owner, sent)], decode([RawBatch(SOURCE, 0, sent)])).result(LIMIT)


def raise_floor(database: str) -> None:
    """Retention has gone on since the batch was decoded: half of it is too old now."""
    floor = datetime.now(UTC) - timedelta(hours=12)
    execute(database, "UPDATE retention_state SET raw_floor = %s", floor)


def nothing(_database: str) -> None:
    """Nothing happens meanwhile."""


@pytest.mark.parametrize(
    ("first_number", "meanwhile", "stored"),
    [
        pytest.param(10, nothing, 10, id="all are stored"),
        pytest.param(5, nothing, 5, id="half are duplicates"),
        pytest.param(0, nothing, 0, id="all are duplicates"),
        pytest.param(10, raise_floor, 5, id="half are too old"),
        pytest.param(5, raise_floor, 3, id="both"),
    ],
)
def test_metrics_count_what_is_stored(
    database: str,
    thread: LandingThread,
    first_number: int,
    meanwhile: Callable[[str], None],
    stored: int,
) -> None:
    owner = claim(database)
    lands(thread, owner, range(10))
    sent = [
        message(10 + at, event_at(number)) for at, number in enumerate(range(first_number, first_number + 10))
    ]
    decoded = decode([RawBatch(SOURCE, 0, sent)])
    deltas = thread.deltas_ahead(decoded)
    assert deltas is not None, "no duplicate was seen before"
    meanwhile(database)
    thread.launch([span(Claim(10, owner.epoch), sent)], decoded, deltas).result(LIMIT)
    assert value(database, "SELECT count(*) FROM events") == 10 + stored
    assert (
        value(database, "SELECT sum(count) FROM rollup_deltas WHERE metric_name = 'events.count'")
        == 10 + stored
    )
    check_books(database)


def test_nothing_is_computed_ahead_while_duplicates_are_expected(
    database: str, thread: LandingThread
) -> None:
    owner = claim(database)
    lands(thread, owner, range(10))
    lands(thread, Claim(10, owner.epoch), range(10))
    decoded = decode([RawBatch(SOURCE, 0, [message(20, event_at(30))])])
    assert thread.deltas_ahead(decoded) is None


class WatchedLander(Lander):
    """Remembers who used its connection."""

    users: set[str]

    @property
    def connection(self) -> Connection:
        self.users.add(threading.current_thread().name)
        return super().connection


def test_a_connection_is_used_by_the_landing_thread_alone(database: str) -> None:
    """Whatever is asked for: psycopg would make threads wait for each other, and mix their transactions."""
    lander = WatchedLander(database, name="landing-test")
    lander.users = set()
    thread = LandingThread(lander)
    key = (SOURCE, 0)
    owner = thread.claim(key, 0)
    sent = [message(at, event_at(at)) for at in range(3)]
    decoded = decode([RawBatch(SOURCE, 0, sent)])
    thread.deltas_ahead(decoded)
    assert thread.identify(key, owner, "id") == "id"
    thread.launch([span(owner, sent)], decoded).result(LIMIT)
    assert thread.resolve([span(owner, sent)])
    assert thread.claims([key]) == {key: Claim(3, owner.epoch)}
    assert thread.history(key) == [(3, 0)]
    thread.note_caught_up({key: (Claim(3, owner.epoch), datetime.now(UTC))})
    thread.close()
    assert lander.users == {"landing"}
