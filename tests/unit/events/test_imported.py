"""Rows of the original as messages, and when two events are the same in spite of their ids."""

import json
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.imported import content, message, partition_of
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import IMPORT_SOURCE, RawBatch

ID = UUID("0b0f4ae2-4d33-4b53-9d2e-0123456789ab")
AT = datetime(2026, 5, 15, 12, 0, 0, 123456, tzinfo=UTC)
ROW: dict[str, Any] = {
    "offset": 7, "identity": ID, "event_type": "order.placed", "user_id": "u", "session_id": None,
    "properties": '{"price": 1.10, "note": "\\u00e9\\""}', "timestamp": "2026-05-15T12:00:00.123456Z",
    "reached": 1_778_846_400_500,
}  # fmt: skip


def test_a_row_is_an_event_of_the_contract() -> None:
    sent = message(**ROW)
    decoded = decode_batches([RawBatch(IMPORT_SOURCE, 3, [sent])], now=AT, limits=Limits())
    [row] = decoded.events.to_pylist()
    assert (row["id"], row["timestamp"]) == (ID.bytes, AT)
    assert (row["event_type"], row["user_id"], row["session_id"]) == ("order.placed", "u", None)
    assert row["properties"] == ROW["properties"]
    assert (row["source"], row["source_partition"], row["source_offset"]) == ("_import", 3, 7)
    assert (sent.key(), sent.timestamp()) == (str(ID).encode(), (1, ROW["reached"]))


@pytest.mark.parametrize("text", ["", "a\nb", '"', "é\u202e"])
def test_texts_are_written_so_that_they_are_read_as_they_were(text: str) -> None:
    sent = message(**ROW | {"user_id": text, "event_type": text})
    read = json.loads(sent.value() or b"")
    assert (read["user_id"], read["event_type"]) == (text, text)


def test_days_are_partitions_counted_from_1970() -> None:
    assert [partition_of(date(1970, 1, 1)), partition_of(date(2026, 5, 15))] == [0, 20588]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ('{"a": 1.10, "b": [50000.0, -0.0]}', '{"b": [50000, 0], "a": 1.1}'),
        ('{"id": 9007199254740993}', '{"id": 9007199254740992}'),
        ('{"a": 1e2, "a": 5}', '{"a": 5}'),
        ('{"a": "\\u00e9"}', '{"a": "é"}'),
        ('{"a": 1e21}', '{"a": 1000000000000000000000}'),
    ],
)
def test_what_the_original_made_of_a_message_is_the_same(sent: str, stored: str) -> None:
    assert content("a", None, "s", sent) == content("a", None, "s", stored)


def test_what_differs_in_anything_is_another() -> None:
    first = ("a", None, "s", '{"a": 1, "b": "1"}')
    others = [
        ("b", None, "s", first[3]),
        ("a", "", "s", first[3]),
        ("a", None, None, first[3]),
        ("a", None, "s", '{"a": 1}'),
        ("a", None, "s", '{"a": 1, "b": 1}'),
        ("a", None, "s", '{"a": true, "b": "1"}'),
        ("a", None, "s", '{"a": 1.5, "b": "1"}'),
        ("a", None, "s", '{"a": [1], "b": "1"}'),
    ]
    assert content(*first) not in {content(*other) for other in others}
