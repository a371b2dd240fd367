"""Cursors of lists belong to their list and their question."""

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from api.cursors import CURSOR, read_cursor, write_cursor
from api.custom_events.listing import read_listing
from api.discovery.schemas import Values, read_values
from api.errors import BadRequest
from api.opaque import to_text
from api.parameters import Query

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)


def read(text: str, question: object) -> tuple[int | str, ...] | None:
    query = Query(urlencode({"cursor": text}).encode(), [CURSOR])
    return read_cursor(query, CURSOR, "ledger", int, str, question=question)


def refuse(asked: Callable[[], object]) -> None:
    with pytest.raises(BadRequest, match=r"^cursor: belongs to another question$"):
        asked()


def test_a_cursor_of_a_list_belongs_to_its_question() -> None:
    cursor = write_cursor("ledger", 7, "orders", question={"dead": True})
    assert read(cursor, {"dead": True}) == (7, "orders")
    refuse(lambda: read(cursor, {"dead": False}))
    assert read(to_text(b'["ledger",7,"orders"]'), {"dead": False}) == (7, "orders"), "one of before"
    with pytest.raises(BadRequest, match="is not a cursor of this list"):
        read(to_text(b'["ledger",7,"orders",8]'), None)


def test_a_cursor_of_definitions_belongs_to_its_question() -> None:
    cursor = read_listing(b"prefix=my.").cursor("my.signal")
    assert read_listing(f"prefix=my.&limit=3&cursor={cursor}".encode()).after == "my.signal"
    refuse(lambda: read_listing(f"cursor={cursor}".encode()))
    refuse(lambda: read_listing(f"prefix=my.&is_active=true&cursor={cursor}".encode()))
    before = to_text(b"\x01my.signal")
    assert read_listing(f"prefix=my.&cursor={before}".encode()).after == "my.signal"


def test_a_cursor_of_values_belongs_to_its_days_and_question() -> None:
    def ask(query: str, day: int = 17) -> Values:
        return read_values(query.encode(), now=NOW.replace(day=day), default_limit=9, most=9)

    first = ask("prefix=BTC&start_time=2026-05-16T00:00:00Z")
    cursor = first.cursor('"BTCUSDT"')
    for same in ("prefix=BTC", "prefix=BTC&start_time=2026-05-16T00:00:00Z"):
        again = ask(f"{same}&cursor={cursor}", day=19)
        assert (again.first_day, again.last_day) == (first.first_day, first.last_day)
    refuse(lambda: ask(f"cursor={cursor}"))
    refuse(lambda: ask(f"prefix=BTC&start_time=2026-05-15T00:00:00Z&cursor={cursor}"))
    refuse(lambda: ask(f"prefix=BTC&metric_name=events.count&cursor={cursor}"))
    before = to_text(b'[1,20589,20590,"\\"BTCUSDT\\""]')
    assert ask(f"prefix=ETH&cursor={before}").after == '"BTCUSDT"'
