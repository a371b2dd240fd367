"""Questions for lists of events: what is understood, what is refused, and that cursors come back as they went."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.events.ids import uuid7
from analytics_pipeline.events.reach import EVERYTHING
from analytics_pipeline.events.times import EPOCH
from api.errors import BadRequest
from api.events.cursors import Cursor, Row, read_cursor
from api.events.formats import Format
from api.events.listing import EventList, Field, Order, read_event_list
from api.events.property_filters import Operator, PropertyFilter, read_filter
from api.events.single import read_single
from api.times import LATEST

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
_TIMES = st.datetimes(EPOCH.replace(tzinfo=None), LATEST.replace(tzinfo=None), timezones=st.just(UTC))


def ask(accept: str = "", **parameters: object) -> EventList:
    query = urlencode(parameters, doseq=True).encode()
    return read_event_list(query, now=NOW, default_limit=100, max_results=10_000, accept=accept)


def test_without_parameters_it_is_the_newest_hundred_of_a_day() -> None:
    wanted = ask()
    assert (wanted.filters.start, wanted.filters.end) == (NOW - timedelta(days=1), NOW)
    assert (wanted.limit, wanted.order, wanted.format, wanted.fields) == (100, Order.DESC, Format.JSON, ())


def test_types_and_prefixes() -> None:
    filters = ask(event_type=["order.placed", "user.*", "order.placed"]).filters
    assert (filters.types, filters.type_prefixes) == (("order.placed",), ("user.",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price:gte:50", PropertyFilter("price", Operator.GTE, ("50",))),
        ("price:lt:-1.5e3", PropertyFilter("price", Operator.LT, ("-1.5e3",))),
        ("symbol:eq:BTC", PropertyFilter("symbol", Operator.EQ, ('"BTC"',))),
        ('code:eq:"5"', PropertyFilter("code", Operator.EQ, ('"5"',))),
        ("code:eq:05", PropertyFilter("code", Operator.EQ, ('"05"',))),
        ("is_maker:ne:true", PropertyFilter("is_maker", Operator.NE, ("true",))),
        ("side:in:BUY,SELL,BUY", PropertyFilter("side", Operator.IN, ('"BUY"', '"SELL"'))),
        ("a:b:prefix:x:y", PropertyFilter("a:b", Operator.PREFIX, ("x:y",))),
        ("note:eq:", PropertyFilter("note", Operator.EQ, ('""',))),
        ("pnl:exists:false", PropertyFilter("pnl", Operator.EXISTS, (), is_wanted=False)),
        ("n:gt:" + "9" * 41, PropertyFilter("n", Operator.GT, (f'"{"9" * 41}"',))),
    ],
)
def test_property_filters(text: str, expected: PropertyFilter) -> None:
    assert read_filter(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "price",
        "price:50",
        "price:between:1,2",
        ":eq:1",
        "x" * 256 + ":eq:1",
        "a:exists:yes",
        'a:eq:"\\x"',
        'a:eq:"\\u0000"',
    ],
)
def test_property_filters_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is written|has a name|exists is|has a value|has a NUL") as refused:
        read_filter(text)
    assert not text or text not in str(refused.value)


@given(
    row=st.tuples(_TIMES, st.uuids()),
    start=_TIMES,
    end=_TIMES,
    is_back=st.booleans(),
    mark=st.none() | st.binary(min_size=8, max_size=8),
)
def test_cursors_come_back(
    row: tuple[datetime, UUID], start: datetime, end: datetime, is_back: bool, mark: bytes | None
) -> None:
    cursor = Cursor(Row(*row), start, end, is_back, mark)
    assert read_cursor(cursor.text()) == cursor


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda found: found.hex()))
def test_other_texts_are_no_cursors(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        read_cursor(text)


def test_a_cursor_keeps_its_range() -> None:
    first = ask(order="asc")
    row = Row(NOW - timedelta(hours=1), UUID(int=7))
    later = read_event_list(
        urlencode({"order": "asc", "cursor": first.cursor(row, is_back=False)}).encode(),
        now=NOW + timedelta(hours=5), default_limit=100, max_results=100,
    )  # fmt: skip
    assert (later.filters.start, later.filters.end) == (first.filters.start, first.filters.end)
    assert (later.after, later.is_back) == (row, False)


def refused(query: dict[str, object]) -> str:
    with pytest.raises(BadRequest) as caught:
        ask(**query)
    return caught.value.detail


def test_a_cursor_belongs_to_its_range_and_question() -> None:
    asked: dict[str, object] = {
        "event_type": ["order.filled", "order.placed"], "order": "asc", "start_time": "2026-05-17T00:00:00Z",
        "property": ["a:eq:1", "b:eq:2"],
    }  # fmt: skip
    row = Row(NOW - timedelta(hours=1), UUID(int=7))
    cursor = ask(**asked).cursor(row, is_back=False)
    turned = {"event_type": ["order.placed", "order.filled"], "property": ["b:eq:2", "a:eq:1"]}
    again: list[dict[str, object]] = [
        {}, {"limit": 3}, {"fields": "id"}, {"total": "exact"}, {"start_time": "2026-05-17T02:00:00+02:00"},
        {"end_time": "2026-05-17T12:00:00Z"}, {"start_time": ""}, turned,
    ]  # fmt: skip
    for more in again:
        query = urlencode(asked | more | {"cursor": cursor}, doseq=True).encode()
        found = read_event_list(query, now=NOW + timedelta(hours=1), default_limit=9, max_results=9)
        assert (found.filters.end, found.after) == (NOW, row), more
    others: list[dict[str, object]] = [
        {"event_type": "order.filled"}, {"order": "desc"}, {"user_id": "u"}, {"property": "a:eq:1"},
        {"start_time": "2026-05-17T00:00:01Z"}, {"end_time": "2026-05-17T12:00:01Z"},
    ]  # fmt: skip
    for more in others:
        assert refused(asked | more | {"cursor": cursor}) == "cursor: belongs to another question", more
    unmarked = Cursor(row, NOW - timedelta(days=1), NOW).text()
    assert ask(event_type="order.filled", cursor=unmarked).after == row


def test_an_id_says_when() -> None:
    identity = UUID("019e35d1-2800-7000-8000-000000000000")
    filters = ask(id=str(identity)).filters
    assert filters.start < filters.end <= filters.start + timedelta(seconds=2)
    at = EPOCH + timedelta(milliseconds=identity.int >> 80)
    assert filters.start <= at < filters.end


def test_fields() -> None:
    assert ask(fields="timestamp, properties.price,timestamp").fields == (
        Field("timestamp"),
        Field("properties.price", "price"),
    )


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Format.JSON),
        ("*/*", Format.JSON),
        ("application/json", Format.JSON),
        ("text/html, text/csv;q=0.9", Format.CSV),
        ("application/x-ndjson", Format.NDJSON),
        ("application/vnd.apache.arrow.stream", Format.ARROW),
    ],
)
def test_accept_chooses_a_format(accept: str, expected: Format) -> None:
    assert ask(accept).format is expected


@pytest.mark.parametrize(
    ("parameters", "parameter"),
    [
        ({"id": "x"}, "id"),
        ({"id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301"}, "id"),
        ({"cursor": "x"}, "cursor"),
        ({"order": "up"}, "order"),
        ({"total": "all"}, "total"),
        ({"format": "xml"}, "format"),
        ({"fields": "id,secret"}, "fields"),
        ({"fields": "properties."}, "fields"),
        ({"fields": ",".join(f"properties.{n}" for n in range(51))}, "fields"),
        ({"property": [f"a:eq:{n}" for n in range(11)]}, "property"),
        ({"property": "a=1"}, "property"),
        ({"event_type": [f"t{n}" for n in range(21)]}, "event_type"),
        ({"format": "csv", "total": "exact"}, "total"),
        ({"user_id": "x" * 256}, "user_id"),
    ],
)
def test_refusals_name_the_parameter(parameters: dict[str, object], parameter: str) -> None:
    with pytest.raises(BadRequest) as refused:
        ask(**parameters)
    assert refused.value.extra["parameter"] == parameter


def test_one_event_is_looked_for_where_its_id_or_its_timestamp_says() -> None:
    at = datetime(2026, 5, 17, 11, 59, 58, 123_000, tzinfo=UTC)
    own = str(uuid7(at, b"0123456789"))
    near = read_single(own, b"", reach=EVERYTHING).filters
    assert near.start <= at < near.end <= near.start + timedelta(seconds=2)
    for identity in (own, "00000000-0000-4000-8000-000000000000"):
        exact = read_single(identity, b"timestamp=2026-05-17T13:00:00.000001%2B02:00", reach=EVERYTHING)
        assert exact.filters.start == datetime(2026, 5, 17, 11, 0, 0, 1, tzinfo=UTC)
        assert exact.filters.end - exact.filters.start == timedelta(microseconds=1)
        assert (exact.filters.id, exact.limit) == (UUID(identity), 1)


@pytest.mark.parametrize(
    ("identity", "query", "parameter"),
    [
        ("00000000-0000-4000-8000-000000000000", b"", "timestamp"),
        ("00000000-0000-4000-8000-000000000000", b"timestamp=", "timestamp"),
        ("00000000-0000-4000-8000-000000000000", b"timestamp=2026-05-17", "timestamp"),
        ("nothing", b"timestamp=2026-05-17T13:00:00Z", "id"),
        ("\0", b"", "id"),
    ],
)
def test_an_id_that_leads_nowhere_is_refused(identity: str, query: bytes, parameter: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_single(identity, query, reach=EVERYTHING)
    assert caught.value.extra == {"parameter": parameter}


@pytest.mark.parametrize(
    "identity", ["ffffffff-ffff-7fff-bfff-ffffffffffff", "00000000-0000-7000-8000-000000000000"]
)
def test_ids_of_times_that_no_event_has_are_looked_for_like_others(identity: str) -> None:
    for filters in (read_single(identity, b"", reach=EVERYTHING).filters, ask(id=identity).filters):
        assert EPOCH <= filters.start < filters.end
