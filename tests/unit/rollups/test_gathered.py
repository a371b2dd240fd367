"""Merging the states of many series at once is merging each series alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.rollups import gathered, states
from analytics_pipeline.rollups.catalog import Kind
from tests.unit.rollups.test_states import ends, histogram

_bins = st.one_of(st.integers(-8000, 8000), st.integers(-3, 3), st.integers(2000, 2010))
_histograms = st.dictionaries(_bins, st.integers(1, 2**40), max_size=60).map(histogram)
_hashes = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 40))


def _set(hashes: set[int], was_cut: bool) -> bytes:
    return states.distinct_pack(np.sort(np.array(list(hashes), np.uint64)), was_cut=was_cut)


def _wide(seed: int) -> bytes:
    chance = np.random.default_rng(seed)
    return states.distinct_pack(np.unique(chance.integers(0, 2**64 - 1, 700, np.uint64)))


def _full(first: int) -> bytes:
    return histogram(dict.fromkeys(range(first, 3000, 2), 1))


_STATES = {
    Kind.QUANTILE: _histograms | st.integers(0, 3).map(_full),
    Kind.DISTINCT: st.builds(_set, st.sets(_hashes, max_size=30), st.booleans()) | st.integers(0, 9).map(_wide),
    Kind.ENDS: st.one_of(ends, st.tuples(st.integers(0, 2), st.binary(min_size=16, max_size=16), st.just(1.5))).map(
        lambda end: states.ends_pack(states.end_pack(*end), states.end_pack(*end))
    ),
    Kind.REGISTER: st.integers(0, states.MODULUS - 1).map(states.register_pack),
}  # fmt: skip


@pytest.mark.parametrize("kind", _STATES)
@given(data=st.data())
def test_states_of_many_series_merge_to_the_bytes_of_each_series_alone(kind, data):
    groups = data.draw(st.lists(st.lists(_STATES[kind], min_size=1, max_size=6), min_size=1, max_size=6))
    wanted = [states.MERGE[kind](group) for group in groups]
    prefixed = [b"".join(len(state).to_bytes(4, "big") + state for state in group) for group in groups]
    before = [[b"not asked for"], *groups]
    assert gathered.merge(kind, gathered.of_sequences(groups)) == wanted
    assert gathered.merge(kind, gathered.of_prefixed(prefixed)) == wanted
    assert gathered.merge(kind, gathered.of_lists(pa.array(before, pa.list_(pa.binary())).slice(1))) == wanted
