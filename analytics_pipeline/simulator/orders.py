"""Orders: each lives from placed to filled, canceled or rejected, exactly once, after a latency of its own.

Belongs here: prices, latencies, commissions and outcomes of orders. Why an order is placed, and what its
fill means for a position, is the strategies' business: they are told through `Order.on_end`.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from analytics_pipeline.simulator.agenda import Agenda
from analytics_pipeline.simulator.envelope import ORDERS, Draft
from analytics_pipeline.simulator.market import Pit

MAKER_FEE = 0.00002
TAKER_FEE = 0.00015
REJECTED = 0.02
CANCELED = 0.40
REASONS = ("insufficient_balance", "price_out_of_range", "rate_limited", "risk_limit", "symbol_halted")


class Order:
    """One order; `entry_price` is set when it closes a position."""

    __slots__ = ("entry_price", "fill_price", "on_end", "pit", "placed_at", "pnl", "properties", "user_id")

    def __init__(
        self,
        properties: dict[str, Any],
        *,
        pit: Pit,
        user_id: str,
        placed_at: int,
        entry_price: float | None,
        on_end: "OnEnd",
    ) -> None:
        self.properties = properties
        self.pit = pit
        self.user_id = user_id
        self.placed_at = placed_at
        self.entry_price = entry_price
        self.on_end = on_end
        self.fill_price = 0.0
        self.pnl = 0.0

    def draft(self, event_type: str, **more: Any) -> Draft:
        """The event of one step of its life."""
        return Draft(ORDERS, self.properties["symbol"], event_type, {**self.properties, **more}, self.user_id)


OnEnd = Callable[[Order, bool, int], None]
"""Called when an order has ended: the order, whether it was filled, and the time."""


class Exchange:
    """Takes orders and ends them."""

    def __init__(self, random: Random, agenda: Agenda, run: str) -> None:
        self._random = random
        self._agenda = agenda
        self._run = run
        self._count = 0

    def place(
        self,
        *,
        pit: Pit,
        side: str,
        quantity: float,
        strategy_id: str,
        user_id: str,
        patience: float,
        now: int,
        entry_price: float | None,
        on_end: OnEnd,
    ) -> Draft:
        """Place an order; its end is on the agenda. `patience` is the share of limit orders, 0 to 1."""
        random = self._random
        quote = pit.quote
        is_limit = random.random() < patience
        # A limit order joins its own side of the book, a market order takes the other.
        price = quote.bid if (side == "BUY") == is_limit else quote.ask
        self._count += 1
        order = Order(
            {
                "order_id": f"{self._run}-{self._count}",
                "symbol": quote.symbol,
                "side": side,
                "order_type": "LIMIT" if is_limit else "MARKET",
                "price": price,
                "quantity": quantity,
                "strategy_id": strategy_id,
            },
            pit=pit,
            user_id=user_id,
            placed_at=now,
            entry_price=entry_price,
            on_end=on_end,
        )
        chance = random.random()
        if chance < REJECTED:
            self._agenda.add(now + self._latency(1.2), lambda time: self._reject(order, time))
        elif is_limit and chance < REJECTED + CANCELED:
            self._agenda.add(now + self._latency(2_500), lambda time: self._cancel(order, time))
        else:
            self._agenda.add(
                now + self._latency(9.0 if is_limit else 3.5), lambda time: self._fill(order, time)
            )
        return order.draft("order.placed")

    def _latency(self, median_ms: float) -> int:
        """Microseconds, log-normal: most are near the median, a few take ten times as long."""
        return max(50, int(median_ms * self._random.lognormvariate(0, 0.7) * 1000))

    def _reject(self, order: Order, now: int) -> Draft:
        order.on_end(order, False, now)
        return order.draft("order.rejected", reason=REASONS[int(self._random.random() * len(REASONS))])

    def _cancel(self, order: Order, now: int) -> Draft:
        order.on_end(order, False, now)
        return order.draft("order.canceled")

    def _fill(self, order: Order, now: int) -> Draft:
        terms = order.properties
        is_maker = terms["order_type"] == "LIMIT"
        is_buy = terms["side"] == "BUY"
        quote = order.pit.quote
        # The market may have moved since a market order left; a limit order gets its price.
        price = terms["price"] if is_maker else (quote.ask if is_buy else quote.bid)
        quantity = terms["quantity"]
        commission = round(price * quantity * (MAKER_FEE if is_maker else TAKER_FEE), 6)
        gross = 0.0
        if order.entry_price is not None:
            gross = (order.entry_price - price if is_buy else price - order.entry_price) * quantity
        order.fill_price = price
        order.pnl = round(gross - commission, 6)
        order.on_end(order, True, now)
        return order.draft(
            "order.filled",
            price=price,
            latency_ms=(now - order.placed_at) / 1000,
            commission=commission,
            is_maker=is_maker,
            pnl=order.pnl,
        )
