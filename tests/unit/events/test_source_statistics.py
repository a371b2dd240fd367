"""What a batch says about those who sent it."""

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.events.decode import Decoded, decode_batches
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.events.producers import NAMELESS, OTHER
from analytics_pipeline.events.source_statistics import (
    MOST_NAMES,
    Arrivals,
    Summary,
    summarize,
)
from analytics_pipeline.rollups.states import quantile_value
from analytics_pipeline.storage.ledger import balance

NOW = datetime(2026, 5, 15, 12, 0, tzinfo=UTC)


def message(offset: int, late: timedelta | None = timedelta(), *headers, number: int | None = None, **fields):
    """An event that reached Kafka at NOW, `late` after its own time; None is not JSON."""
    at = NOW - (late or timedelta())
    event = {
        "event_type": "page.view",
        "id": str(UUID(int=offset if number is None else number)),
        "timestamp": at.isoformat(),
    }
    content = b"{" if late is None else json.dumps(event | fields).encode()
    return PlainMessage(content, offset, int(NOW.timestamp() * 1000), extra=tuple(headers))


def decoded(*batches: RawBatch) -> Decoded:
    return decode_batches(batches, now=NOW, limits=Limits())


def summaries(*batches: RawBatch) -> dict[tuple[str, str], Summary]:
    """As if everything that decode accepts were stored."""
    found = decoded(*batches)
    lines = balance([], found, found.events, found.dead)
    made = summarize(found.batches, found.arrivals, found.events, found.dead, lines)
    assert [(one.source, one.producer) for one in made] == sorted((one.source, one.producer) for one in made)
    return {(one.source, one.producer): one for one in made}


@pytest.mark.parametrize("years", [-70, 70])
def test_an_event_of_another_century_hides_nothing(years: int) -> None:
    far = message(0, timedelta(days=365 * years))
    usual = [message(offset, timedelta(milliseconds=200)) for offset in range(1, 50)]
    [one] = summaries(RawBatch("t", 0, [far, *usual])).values()
    assert quantile_value(one.lateness, 0.5) == pytest.approx(200, rel=0.05)
    assert abs(quantile_value(one.lateness, 0 if years < 0 else 1)) == pytest.approx(9 * 86_400_000, rel=0.05)
    assert (one.ahead_max_ms > 1e12) is (years < 0)


def test_without_names_the_partitions_of_a_topic_are_one() -> None:
    first = [message(0), message(1, number=0), message(2, None)]
    second = [message(7, number=7), message(8, number=8)]
    made = summaries(
        RawBatch("a", 0, first), RawBatch("a", 1, second), RawBatch("b", 0, [message(0, number=9)])
    )
    assert made.keys() == {("a", NAMELESS), ("b", NAMELESS)}
    one = made["a", NAMELESS]
    assert (one.read, one.stored, one.duplicate, one.dead) == (5, 3, 1, 1)
    assert one.reasons == {"not_json": 1}


def test_each_producer_has_its_own_sums() -> None:
    orders, risk = ("source", b"orders"), ("client_id", b"risk")
    messages = [
        message(0, timedelta(seconds=1), orders),
        message(1, timedelta(seconds=1), orders, number=0),
        message(2, None, orders),
        message(3, timedelta(seconds=60), risk),
        message(4, timedelta(days=400), risk),
        message(5),
        message(6, timedelta(), ("other", b"x")),
    ]
    made = summaries(RawBatch("t", 0, messages))
    assert made.keys() == {("t", NAMELESS), ("t", "orders"), ("t", "risk")}
    assert [getattr(made["t", "orders"], name) for name in ("read", "stored", "duplicate", "dead")] == [
        3,
        1,
        1,
        1,
    ]
    assert [getattr(made["t", "risk"], name) for name in ("read", "stored", "duplicate", "dead")] == [
        2,
        1,
        0,
        1,
    ]
    assert made["t", "risk"].reasons == {"too_old": 1}
    assert made["t", NAMELESS].read == 2
    assert quantile_value(made["t", "orders"].lateness, 0.5) == pytest.approx(1000, rel=0.037)
    assert quantile_value(made["t", "risk"].lateness, 0.0) == pytest.approx(60_000, rel=0.037)


def test_source_wins_over_client_id_and_the_first_of_a_name_counts() -> None:
    headers = (("client_id", b"b"), ("source", None), ("source", b"c"), ("client_id", b"d"))
    made = summaries(RawBatch("t", 0, [message(0, timedelta(), *headers)]))
    assert made.keys() == {("t", "c")}
    headers = (("client_id", b"b"), ("source", None), ("client_id", b"d"))
    made = summaries(RawBatch("t", 0, [message(0, timedelta(), *headers)]))
    assert made.keys() == {("t", "b")}
    headers = (("client_id", b"b"), ("source", b"a"), ("source", b"c"))
    made = summaries(RawBatch("t", 0, [message(0, timedelta(), *headers)]))
    assert made.keys() == {("t", "a")}


def test_names_of_a_batch_are_bounded() -> None:
    many = [message(n, timedelta(), ("source", f"p-{n}".encode())) for n in range(MOST_NAMES + 50)]
    made = summaries(RawBatch("t", 0, many))
    assert len(made) == MOST_NAMES + 1
    assert made["t", OTHER].read == 50


def test_a_clock_that_is_ahead_is_seen_whatever_becomes_of_the_event() -> None:
    messages = [message(n, timedelta(seconds=-3)) for n in range(98)]
    messages += [message(98, timedelta(seconds=-20)), message(99, timedelta(minutes=-30))]
    one = summaries(RawBatch("t", 0, messages))["t", NAMELESS]
    assert one.reasons == {"too_far_in_future": 1}
    assert one.ahead_max_ms == 30 * 60 * 1000
    assert -quantile_value(one.lateness, 0.5) == pytest.approx(3000, rel=0.037)
    assert -quantile_value(one.lateness, 0.02) == pytest.approx(20_000, rel=0.037)


@given(st.lists(st.integers(-(10**11), 10**11), min_size=1, max_size=300))
def test_quantiles_of_lateness_are_within_four_percent(micros: list[int]) -> None:
    lateness = np.array(micros, np.int64)
    arrivals = Arrivals(np.zeros_like(lateness), np.arange(len(lateness)), lateness)
    batch = RawBatch("t", 0, [message(n, None) for n in range(len(micros))])
    found = decoded(batch)
    lines = balance([], found, found.events, found.dead)
    [one] = summarize([batch], arrivals, found.events, found.dead, lines)
    ordered = sorted(micros)
    for quantile in (0.0, 0.5, 0.99, 1.0):
        exact = ordered[int(quantile * (len(ordered) - 1))] / 1000
        found_value = quantile_value(one.lateness, quantile)
        if abs(exact) < 1:
            assert abs(found_value) <= 1.04
        else:
            assert found_value == pytest.approx(exact, rel=0.037)
    assert one.ahead_max_ms == max(0, -min(micros)) / 1000


_kinds = st.sampled_from(["good", "repeat", "broken", "old"])
_names = st.sampled_from(
    [(), (("source", b"a"),), (("client_id", b"b"),), (("source", b"\xff"),), (("x", None),)]
)


@given(st.lists(st.lists(st.tuples(_kinds, _names), max_size=20), min_size=1, max_size=3))
def test_nothing_is_counted_twice_or_left_out(batches: list[list[tuple[str, tuple]]]) -> None:
    late = {"good": timedelta(), "repeat": timedelta(), "broken": None, "old": timedelta(days=400)}
    raw = [
        RawBatch(
            "t",
            partition,
            [
                message(n, late[kind], *headers, number=1 if kind == "repeat" else 1000 * partition + n + 2)
                for n, (kind, headers) in enumerate(kinds)
            ],
        )
        for partition, kinds in enumerate(batches)
    ]
    found = decoded(*raw)
    lines = balance([], found, found.events, found.dead)
    made = summaries(*raw)
    for name in ("read", "stored", "duplicate", "dead"):
        assert sum(getattr(one, name) for one in made.values()) == sum(getattr(line, name) for line in lines)
    for one in made.values():
        assert one.dead == sum(one.reasons.values())
        assert min(one.read, one.stored, one.duplicate, one.dead) >= 0
    expected = Counter(
        (headers[0][1] or b"").decode("ascii", "replace") if headers and headers[0][1] else NAMELESS
        for kinds in batches
        for _, headers in kinds
    )
    expected[OTHER] = expected.pop("\ufffd", 0)
    assert {one.producer: one.read for one in made.values()} == {k: v for k, v in expected.items() if v}


def test_it_costs_less_than_a_third_of_a_microsecond_an_event() -> None:
    rng = np.random.default_rng(1)
    messages = [message(n) for n in range(20_000)]
    batches = [RawBatch("t", p, messages[p * 5000 : (p + 1) * 5000]) for p in range(4)]
    found = decoded(*batches)
    lines = balance([], found, found.events, found.dead)
    arrivals = Arrivals(
        np.repeat(np.arange(4), 5000),
        np.arange(20_000),
        (rng.lognormal(4, 1, 20_000) * 1000).astype(np.int64),
    )
    seconds = []
    for _ in range(5):
        began = time.thread_time()
        [one] = summarize(batches, arrivals, found.events, found.dead, lines)
        seconds.append(time.thread_time() - began)
    assert one.read == 20_000
    assert min(seconds) / 20_000 < 0.9e-6, min(
        seconds
    )  # three times what is wanted: a busy machine is no failure
