"""The market: eight symbols whose prices walk randomly, each with a bid below its ask.

The logarithm of a price follows an Ornstein-Uhlenbeck process in event time, so a chart looks the same at
any rate of events and no price drifts away over days.
"""

from collections import deque
from math import exp, sqrt
from random import Random
from typing import Any, NamedTuple

from analytics_pipeline.simulator.envelope import MARKET, SECOND, Draft

PULL = 8e-6
"""How strongly a price is drawn back to its base, per second: swings of some percent a day remain."""

MEMORY_STEP = 10 * SECOND
MEMORY_LENGTH = 120


class Instrument(NamedTuple):
    """A symbol: where its price starts, how fine its price and its quantity are, and how it moves."""

    symbol: str
    base: float
    decimals: int
    lot_decimals: int
    typical_value: float
    spread: float
    volatility: float


INSTRUMENTS = (
    Instrument("BTCUSDT", 64_250.0, 2, 5, 9_000, 0.00004, 0.00009),
    Instrument("ETHUSDT", 3_180.0, 2, 4, 6_000, 0.00006, 0.00011),
    Instrument("SOLUSDT", 152.0, 3, 3, 3_000, 0.00012, 0.00016),
    Instrument("BNBUSDT", 585.0, 2, 3, 2_500, 0.00010, 0.00010),
    Instrument("XRPUSDT", 0.62, 5, 1, 2_000, 0.00015, 0.00014),
    Instrument("ADAUSDT", 0.45, 5, 1, 1_500, 0.00018, 0.00015),
    Instrument("DOGEUSDT", 0.14, 6, 0, 1_500, 0.00020, 0.00019),
    Instrument("AVAXUSDT", 34.0, 3, 2, 2_000, 0.00016, 0.00017),
)
ACTIVITY = (30, 22, 14, 9, 9, 5, 6, 5)
"""How often each symbol trades, relative to the others."""


class Quote(NamedTuple):
    """The market of one symbol at one time; price is that of the last trade."""

    time: int
    symbol: str
    price: float
    volume: float
    bid: float
    ask: float

    def draft(self) -> Draft:
        """The event that tells it."""
        properties: dict[str, Any] = {
            "symbol": self.symbol,
            "price": self.price,
            "volume": self.volume,
            "bid": self.bid,
            "ask": self.ask,
        }
        return Draft(MARKET, self.symbol, "market.data.update", properties)


class Pit:
    """One instrument's walk, its latest quote, and some quotes of the last minutes."""

    def __init__(self, instrument: Instrument, random: Random, now: int, end: int | None = None) -> None:
        self.instrument = instrument
        self._random = random
        self._end = end
        self._offset = 0.0
        self._ticks: int = 10**instrument.decimals
        self._lots: int = 10**instrument.lot_decimals
        self._half_spread = instrument.base * instrument.spread * self._ticks / 2
        self.quote = Quote(now, instrument.symbol, instrument.base, 0, instrument.base, instrument.base)
        self.memory: deque[Quote] = deque(maxlen=MEMORY_LENGTH)
        self.trade(now)

    def trade(self, now: int) -> Quote:
        """Move the price from its last trade to `now`, and trade there."""
        random = self._random
        seconds = max(0, now - self.quote.time) / SECOND
        self._offset += self.instrument.volatility * sqrt(seconds) * random.gauss(0, 1)
        self._offset -= self._offset * min(1.0, seconds * PULL)
        if self._end is not None:
            # A Brownian bridge: what is left of the way is spread over what is left of the time.
            left = max(0, self._end - now) / SECOND
            self._offset *= left / (left + seconds) if seconds else 1.0
        middle = self.instrument.base * exp(self._offset) * self._ticks
        # Whole ticks keep the decimals clean and the bid below the ask.
        bid = max(1, int(middle - self._half_spread * (0.6 + random.random())))
        ask = max(bid + 1, int(middle + self._half_spread * (0.6 + random.random())) + 1)
        price = bid if random.random() < 0.5 else ask
        self.quote = Quote(
            now,
            self.instrument.symbol,
            price / self._ticks,
            self.quantity(),
            bid / self._ticks,
            ask / self._ticks,
        )
        if not self.memory or now - self.memory[-1].time >= MEMORY_STEP:
            self.memory.append(self.quote)
        return self.quote

    def quantity(self) -> float:
        """A believable amount to trade: log-normal around what is typical, at least one lot."""
        value = self.instrument.typical_value * self._random.lognormvariate(-0.5, 0.9)
        lots = max(1, round(value / self.instrument.base * self._lots))
        return lots / self._lots


class Market:
    """All symbols."""

    def __init__(self, random: Random, now: int, end: int | None = None) -> None:
        self._random = random
        self._pits = [Pit(instrument, random, now, end) for instrument in INSTRUMENTS]
        # A list to index is several times faster than a weighted choice.
        self._by_activity = [
            pit for pit, weight in zip(self._pits, ACTIVITY, strict=True) for _ in range(weight)
        ]

    def pick(self) -> Pit:
        """A symbol, the active ones more often."""
        return self._by_activity[int(self._random.random() * len(self._by_activity))]

    def trade(self, now: int) -> Draft:
        """A trade in some symbol."""
        return self.pick().trade(now).draft()

    def belated(self, time: int) -> Draft:
        """What a symbol's market was at the past `time`, or the nearest that is remembered."""
        pit = self.pick()
        return next((quote for quote in pit.memory if quote.time >= time), pit.quote).draft()
