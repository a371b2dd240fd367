"""States of aggregations merge to the same bytes in any order, and tell quantiles and counts as exactly as they say."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.rollups import states

bins = st.dictionaries(st.integers(-8000, 8000), st.integers(1, 1000), min_size=1, max_size=60)


def histogram(counts: dict[int, int]) -> bytes:
    keys = sorted(counts)
    return states.quantile_pack(
        np.array(keys, dtype=np.int16), np.array([counts[key] for key in keys], dtype=np.int64)
    )


def keys_of(values: list[float]) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in values:
        key = 0
        if value:
            key = math.ceil(math.log(abs(value)) / states.LN_GAMMA) + states.BIN_OFFSET
            key = key if value > 0 else -key
        found[key] = found.get(key, 0) + 1
    return found


@given(st.lists(st.floats(-9, 18), min_size=1, max_size=60), st.randoms())
def test_a_quantile_without_a_bound_is_known_by_the_largest_magnitude_alone(powers, chance):
    values = [10**power * chance.choice([1, -1]) for power in powers]
    values += [0.0] * chance.randrange(3)
    state, ordered = histogram(keys_of(values)), sorted(values)
    largest = max(map(abs, values))
    for quantile in (0, 0.1, 0.5, 0.9, 1):
        true = ordered[math.floor(quantile * (len(values) - 1))]
        value = states.quantile_value(state, quantile)
        [is_unbounded] = states.is_quantile_unbounded(np.array([value]), np.array([largest]))
        is_near = abs(value - true) <= states.RELATIVE_ERROR * abs(true) * (1 + 1e-9)
        assert is_near or is_unbounded
        assert abs(true) <= abs(value) * 1.0051
        if largest <= 7e8 * abs(value):
            assert not is_unbounded


@given(st.lists(bins, min_size=2, max_size=8), st.randoms())
def test_histograms_merge_to_the_same_bytes_in_any_order_and_grouping(parts, chance):
    packed = [histogram(part) for part in parts]
    together = states.quantile_merge(packed)
    chance.shuffle(packed)
    cut = chance.randrange(1, len(packed))
    grouped = states.quantile_merge(
        [states.quantile_merge(packed[:cut]), states.quantile_merge(packed[cut:])]
    )
    assert together == grouped
    assert states.quantile_unpack(together)[1].sum() == sum(sum(part.values()) for part in parts)


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("log-normal", lambda chance: chance.lognormvariate(2, 1.5)),
        ("bimodal", lambda chance: chance.gauss(5, 0.1) if chance.random() < 0.7 else chance.gauss(900, 20)),
        ("heavy-tailed", lambda chance: chance.paretovariate(0.8)),
        ("negative", lambda chance: -chance.lognormvariate(0, 2)),
        ("constant", lambda chance: 42.0),
        ("zero and both signs", lambda chance: chance.choice([0.0, -3.0, 8.0])),
    ],
)
def test_quantiles_are_within_half_a_percent(name, draw):
    chance = random.Random(5)
    values = [draw(chance) for _ in range(20_000)]
    state = states.quantile_merge([histogram(keys_of(values[i::7])) for i in range(7)])
    ordered = sorted(values)
    for quantile in (0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 1.0):
        true = ordered[math.floor(quantile * (len(values) - 1))]
        assert states.quantile_value(state, quantile) == pytest.approx(
            true, rel=states.RELATIVE_ERROR * 1.0001, abs=0
        )


@given(
    st.lists(st.tuples(bins, st.integers(0, 4)), max_size=12),
    st.floats(0, 1),
)
def test_quantiles_of_many_groups_are_those_of_each_merged(parts, quantile):
    packed = [histogram(counts) for counts, _ in parts]
    groups = np.array([group for _, group in parts], np.intp)
    found = states.grouped_quantile(packed, groups, 5, quantile)
    for group in range(5):
        own = [state for state, (_, other) in zip(packed, parts, strict=True) if other == group]
        expected = states.quantile_value(states.quantile_merge(own), quantile) if own else math.nan
        assert found[group] == expected or (math.isnan(found[group]) and math.isnan(expected))


def test_quantile_of_nothing_is_not_a_number():
    empty = states.quantile_pack(np.array([], dtype=np.int16), np.array([], dtype=np.int64))
    assert math.isnan(states.quantile_value(empty, 0.5))


@given(st.lists(st.sets(st.integers(0, 2**64 - 1), max_size=900), min_size=2, max_size=5), st.randoms())
def test_distinct_sets_merge_to_the_same_bytes_in_any_order(parts, chance):
    packed = [states.distinct_pack(np.sort(np.array(list(part), dtype=np.uint64))) for part in parts]
    together = states.distinct_merge(packed)
    chance.shuffle(packed)
    assert together == states.distinct_merge([packed[0], states.distinct_merge(packed[1:])])
    hashes = b"".join(one[2:] for one in packed)
    assert together == states.distinct_join(hashes, was_cut=any(one[1] for one in packed))
    true = len(set().union(*parts))
    if true <= states.DISTINCT_SIZE:
        assert states.distinct_count(together) == true


def test_distinct_is_exact_up_to_the_size_and_an_estimate_above():
    chance = random.Random(9)
    hashes = np.array([chance.randrange(2**64) for _ in range(200_000)], dtype=np.uint64)
    exact = states.distinct_pack(np.sort(hashes[: states.DISTINCT_SIZE]))
    assert states.distinct_count(exact) == states.DISTINCT_SIZE
    merged = states.distinct_merge([states.distinct_pack(np.sort(hashes[i::50])) for i in range(50)])
    assert states.distinct_count(merged) == pytest.approx(200_000, rel=0.1)


def test_a_set_that_was_cut_stays_an_estimate_when_what_is_added_is_in_it():
    hashes = np.arange(1, 2 * states.DISTINCT_SIZE, dtype=np.uint64) << 50
    cut = states.distinct_pack(hashes)
    assert states.distinct_merge([cut, states.distinct_pack(hashes[:5])]) == cut
    assert states.distinct_join(cut[2:] + cut[2:], was_cut=True) == cut


def test_event_hashes_differ_for_every_part_of_the_identity():
    ids = np.array([[1, 2], [2, 1], [1, 2]], dtype=np.uint64)
    high, low = states.event_hashes(ids, np.array([5, 5, 6], dtype=np.int64))
    assert len(set(high.tolist())) == 3
    assert len(set(low.tolist())) == 3
    assert not set(high.tolist()) & set(low.tolist())


ends = st.tuples(st.integers(-(2**62), 2**62), st.binary(min_size=16, max_size=16), st.floats(-1e18, 1e18))


@given(st.lists(ends, min_size=1, max_size=12, unique_by=lambda end: end[:2]), st.randoms())
def test_first_and_last_values_merge_to_the_same_bytes_in_any_order_and_grouping(values, chance):
    parts = [states.ends_pack(states.end_pack(*value), states.end_pack(*value)) for value in values]
    together = states.ends_merge(parts)
    assert states.ends_values(together) == (min(values)[2], max(values)[2])
    chance.shuffle(parts)
    cut = chance.randrange(len(parts)) + 1
    halves = [states.ends_merge(half) for half in (parts[:cut], parts[cut:]) if half]
    assert states.ends_merge(halves) == together
