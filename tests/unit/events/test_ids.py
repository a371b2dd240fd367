"""Ids sort by time, carry it, and are the same for every replay."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.events.ids import deterministic_ids, source_seed, time_of, time_of_uuid7, uuid7
from analytics_pipeline.events.times import EPOCH, from_micros, micros

MICROS = st.integers(0, micros(datetime(2200, 1, 1, tzinfo=UTC)))
OFFSETS = st.integers(0, 2**63 - 1)


def make(at: int, offset: int, source: str = "order.events", partition: int = 0) -> UUID:
    seeds = np.array([source_seed(source, partition)], np.uint64)
    [[high, low]] = deterministic_ids(np.array([at], np.int64), np.array([offset], np.int64), seeds)
    return UUID(int=(int(high) << 64) | int(low))


@given(MICROS, OFFSETS)
def test_a_deterministic_id_is_a_version_8_that_carries_its_time(at: int, offset: int) -> None:
    made = make(at, offset)
    assert (made.version, made.variant) == (8, "specified in RFC 4122")
    assert time_of(made) == from_micros(at)
    assert make(at, offset) == made


@given(st.lists(st.tuples(MICROS, OFFSETS), min_size=2, unique_by=lambda pair: pair[0]))
def test_ids_sort_by_time(pairs: list[tuple[int, int]]) -> None:
    ordered = sorted(pairs)
    made = [make(at, offset) for at, offset in ordered]
    assert made == sorted(made)


@given(MICROS, st.sets(OFFSETS, min_size=2, max_size=50))
def test_events_of_one_moment_have_different_ids(at: int, offsets: set[int]) -> None:
    assert len({make(at, offset) for offset in offsets}) == len(offsets)


def test_topics_and_partitions_have_different_ids() -> None:
    where = [("a", 0), ("a", 1), ("b", 0), ("a\0", 0)]
    assert len({make(5, 7, *place) for place in where}) == len(where)


def test_the_id_of_known_coordinates_never_changes() -> None:
    """Replays of messages landed by an earlier version must find the same id."""
    assert str(make(1_715_774_370_250_123, 42)) == "018f7c1f-31ca-807b-93a0-af9aeccc6509"


@given(st.integers(0, micros(datetime(9999, 1, 1, tzinfo=UTC))), st.binary(min_size=10, max_size=10))
def test_uuid7_follows_rfc_9562(at: int, randomness: bytes) -> None:
    aware = from_micros(at)
    made = uuid7(aware, randomness)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    inside = time_of_uuid7(made)
    assert inside is not None
    assert timedelta(0) <= aware - inside < timedelta(milliseconds=1)


def test_uuid7_of_the_rfc_example() -> None:
    example = UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    assert time_of_uuid7(example) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    assert uuid7(datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC), bytes(10)).int >> 80 == example.int >> 80


@given(st.uuids(version=4))
def test_other_ids_say_nothing_about_their_time(given_id: UUID) -> None:
    assert time_of(given_id) is None


def test_a_uuid7_beyond_the_year_9999_is_of_its_last_moment() -> None:
    assert time_of_uuid7(UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")) == datetime.max.replace(tzinfo=UTC)
    assert micros(EPOCH) == 0
