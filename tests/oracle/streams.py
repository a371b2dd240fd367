"""Random streams of events around the edges of buckets, as Hypothesis draws them.

Belongs here: what an event may look like. Does not belong here: landing it (`machine`).

Every draw is an index into a short list: that is cheap to draw and shrinks to the plainest event.
"""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st

_TICK = timedelta(microseconds=1)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)

EDGES = {
    "leap day": datetime(2024, 2, 29, tzinfo=UTC),
    "month end": datetime(2024, 3, 1, tzinfo=UTC),
    "year end": datetime(2024, 1, 1, tzinfo=UTC),
}
"""Midnights around which a stream plays."""

PLACES = (
    timedelta(0),
    -_TICK,
    _TICK,
    _MINUTE - _TICK,
    _MINUTE,
    _MINUTE + _TICK,
    -_MINUTE,
    -_MINUTE - _TICK,
    5 * _MINUTE - _TICK,
    5 * _MINUTE,
    -5 * _MINUTE,
    15 * _MINUTE - _TICK,
    15 * _MINUTE,
    -15 * _MINUTE - _TICK,
    _HOUR - _TICK,
    _HOUR,
    -_HOUR,
    -_HOUR - _TICK,
)
"""Times of events, from the edge: the starts of buckets of every level, and 1 µs beside them."""

END = timedelta(hours=2)
"""After this no event happens."""

_TYPES = (
    "order.filled",
    "order.placed",
    "order.rejected",
    "order.canceled",
    "user.login",
    "market.data.update",
    "balance.updated",
    "signal.generated",
    "position.opened",
    "position.closed",
    "alert.triggered",
    "custom.naïve",
    'quo"te',
)
_SYMBOLS = ('"BTC"', '"ETH"', None, '""', "7", "7.5", "1e2", "true", "null", '{"a":1}', '"\\u0041\\ud83d\\ude00"',
            '"' + "x" * 300 + '"', "9007199254740993")  # fmt: skip
_STRATEGIES = ('"s1"', '"s2"', None, "3", "null", "[1]")
_NUMBERS = (
    "1", "2.5", "0.1", "3", "0", "-0.0", "-2", "1e-9", "4e-10", "1e18", "-1e18", "1.1e18", "1e300", "12345.678901234",
    "9007199254740993", '"12"', "null", "true", None, "[1]",
)  # fmt: skip
_LATENCIES = (
    "12.5",
    "1",
    "2",
    "900.25",
    "0",
    "-0.0",
    "-3.5",
    "1e-9",
    "1e18",
    "3e9",
    "1e300",
    '"7"',
    "null",
    None,
)
_QUOTES = ("1", "2.5", "0.1", "3", "0", "-2", "4e-10", "12345.678901234", '"12"', "null", None)
_MORE: dict[str, dict[str, tuple[str | None, ...]]] = {
    "order.filled": {"pnl": _NUMBERS, "commission": _NUMBERS},
    "market.data.update": {"volume": _NUMBERS, "bid": _QUOTES, "ask": _QUOTES},
    "balance.updated": {"account_id": _STRATEGIES, "asset": _SYMBOLS[:4], "balance": _NUMBERS},
    "signal.generated": {"signal_strength": _NUMBERS},
    "alert.triggered": {"severity": _SYMBOLS},
}
"""What only some types say."""
_DELAYS = (timedelta(0), timedelta(seconds=20), timedelta(minutes=5), timedelta(hours=3))


class Draft(NamedTuple):
    """An event before anybody sends it: its JSON, and when it reaches Kafka."""

    content: bytes
    reached: datetime

    def __repr__(self) -> str:
        return f"{self.reached:%d %H:%M:%S.%f} {self.content.decode()}"


@st.composite
def drafts(draw: st.DrawFn, edge: datetime) -> Draft:
    """One event, or rarely a message that is none; the same place and number give the same key."""

    def of(choices: Any) -> Any:
        return choices[draw(st.integers(0, len(choices) - 1))]

    at = edge + of(PLACES)
    number = draw(st.integers(0, 7))
    event_type = of(_TYPES)
    fields = {"event_type": json.dumps(event_type)}
    reached = at + of(_DELAYS)
    if number < 7:
        fields["id"] = json.dumps(str(uuid.UUID(int=number + 1)))
    fields["timestamp"] = json.dumps(at.isoformat())
    for name, count in (("user_id", 4), ("session_id", 3)):
        if (who := draw(st.integers(0, count))) < count:
            fields[name] = json.dumps(f"{name}-{who}")
    said = {
        "symbol": of(_SYMBOLS),
        "strategy_id": of(_STRATEGIES),
        "price": of(_NUMBERS),
        "quantity": of(_NUMBERS),
        "latency_ms": of(_LATENCIES),
        **{name: of(choices) for name, choices in _MORE.get(event_type, {}).items()},
    }
    parts = [f'"{name}":{text}' for name, text in said.items() if text is not None]
    fields["properties"] = "{" + ",".join(parts) + "}"
    text = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
    return Draft(text.encode(), reached)


def batches(edge: datetime) -> st.SearchStrategy[list[Draft]]:
    """A few events that arrive together."""
    return st.lists(drafts(edge), min_size=1, max_size=10)
