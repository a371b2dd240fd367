"""Nothing but the events table's types and values passes, whatever decode does."""

from typing import Any

import pyarrow as pa
import pytest

from analytics_pipeline.errors import InvariantBroken
from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.events.schema import EVENTS_SCHEMA, check_events
from tests.unit.events.bad_inputs import NOW, raw


@pytest.fixture
def table() -> pa.Table:
    messages = [PlainMessage(raw(user_id=str(n)), n, 0) for n in range(3)]
    return decode_batches([RawBatch("t", 0, messages)], now=NOW, limits=Limits()).events


def replaced(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field.name, pa.array(values, field.type))


def test_a_good_batch_passes_unchanged(table: pa.Table) -> None:
    assert check_events(table).equals(table)
    assert check_events(table).schema == EVENTS_SCHEMA


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ("event_type", ""),
        ("event_type", "x" * 256),
        ("event_type", None),
        ("user_id", "x" * 256),
        ("properties", "[]"),
        ("properties", None),
        ("source", ""),
        ("source_offset", -1),
        ("source_partition", -1),
        ("definition_version", 0),
        ("timestamp", None),
        ("id", None),
        ("is_late", None),
    ],
)
def test_one_bad_value_stops_the_batch(table: pa.Table, column: str, bad: Any) -> None:
    values = table[column].to_pylist()
    values[1] = bad
    with pytest.raises(InvariantBroken):
        check_events(replaced(table, column, values))


def test_other_columns_and_types_do_not_pass(table: pa.Table) -> None:
    for wrong in (
        table.drop_columns(["user_id"]),
        table.append_column("extra", pa.array([1, 2, 3])),
        table.select(table.schema.names[::-1]),
        table.set_column(9, "source_offset", pa.array(["a", "b", "c"])),
        table.set_column(0, "id", pa.array([b"short"] * 3)),
    ):
        with pytest.raises(InvariantBroken):
            check_events(wrong)
