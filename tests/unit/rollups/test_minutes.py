"""Rows of minutes out of a stream of chunks are those of all its events at once."""

import itertools
import random

import pyarrow as pa
import pytest

from analytics_pipeline.rollups import levels, minutes
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from analytics_pipeline.rollups.compare import compare_rows
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.minutes import minute_rows
from tests.unit.rollups.events import batch


@pytest.mark.parametrize("most", [1, 300, 20_000])
def test_a_stream_in_chunks_is_what_its_events_are_at_once(monkeypatch, most):
    """To the byte, whatever the chunks, their order, and how many are added up together."""
    monkeypatch.setattr(minutes, "_MOST_GATHERED", most)
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    events = batch(900, seed=seed)
    edges = sorted({0, 900, *(chance.randrange(900) for _ in range(12))})
    chunks = [events.slice(begin, end - begin) for begin, end in itertools.pairwise(edges)]
    chance.shuffle(chunks)
    found = minute_rows(iter(chunks), BUILT_IN)
    assert found.schema == levels.LEVEL_SCHEMA
    assert compare_rows(levels.roll_up(compute_deltas(events, BUILT_IN), "1m"), found) == []


def test_adding_up_costs_as_much_as_there_are_rows_and_not_their_square(monkeypatch):
    computed, added = [], []

    def compute(chunk: pa.Table, catalog: Catalog) -> pa.Table:
        computed.append(compute_deltas(chunk, catalog))
        return computed[-1]

    def roll_up(rows: pa.Table, level: str) -> pa.Table:
        added.append(rows.num_rows)
        return levels.roll_up(rows, level)

    monkeypatch.setattr(minutes, "compute_deltas", compute)
    monkeypatch.setattr(minutes, "roll_up", roll_up)
    monkeypatch.setattr(minutes, "_MOST_GATHERED", 100)
    events = batch(2_000, seed=7)
    found = minute_rows((events.slice(at, 40) for at in range(0, 2_000, 40)), BUILT_IN)
    assert max(added) <= 3 * found.num_rows
    assert sum(added) <= 3 * sum(deltas.num_rows for deltas in computed)


def test_without_events_there_are_no_rows():
    assert minute_rows(iter(()), BUILT_IN).equals(levels.LEVEL_SCHEMA.empty_table())
