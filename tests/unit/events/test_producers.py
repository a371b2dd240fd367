"""Names of producers: which header tells, and what is kept of it."""

import pytest

from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.messages import PlainMessage, dead_letter
from analytics_pipeline.events.producers import OTHER, producer_of, readable
from analytics_pipeline.events.reasons import Reason


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"order-execution", "order-execution"),
        (b"svc/orders@eu-1:2", "svc/orders@eu-1:2"),
        (b"", OTHER),
        (b"x" * 65, OTHER),
        (b"__other__", OTHER),
        (b"a\x00b", OTHER),
        (b"a b", OTHER),
        ("ö".encode(), OTHER),
        (b"\xff\xfe", OTHER),
        ("²".encode(), OTHER),
    ],
)
def test_names_are_kept_only_when_they_are_plain(value: bytes, name: str) -> None:
    assert readable(value) == name


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ((), None),
        ((("trace", b"x"),), None),
        ((("source", None), ("client_id", None)), None),
        ((("client_id", b"b"), ("source", b"a")), "a"),
        ((("source", None), ("client_id", b"b")), "b"),
        ((("source", b"two words"), ("client_id", b"b")), OTHER),
        ((("source", b""),), OTHER),
    ],
)
def test_a_dead_letter_has_the_name_that_its_message_gave(
    headers: tuple[tuple[str, bytes | None], ...], name: str | None
) -> None:
    made = dead_letter("t", 0, PlainMessage(b"{", 1, extra=headers), Rejected(Reason.NOT_JSON))
    assert made.producer == producer_of(headers) == name
