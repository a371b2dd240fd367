"""Strategies: they start, signal, open positions, close them and stop.

A strategy stops only after its last order has ended and its last position is closed. What a position earned
is the sum of what its two orders earned, and goes to the account.
"""

from random import Random
from typing import Any, NamedTuple

from analytics_pipeline.simulator.accounts import Account
from analytics_pipeline.simulator.agenda import Agenda
from analytics_pipeline.simulator.envelope import SECOND, TRADING, Draft
from analytics_pipeline.simulator.market import Market, Pit
from analytics_pipeline.simulator.orders import Exchange, Order

MINUTE = 60 * SECOND


class Style(NamedTuple):
    """A way to trade: share of limit orders, and how long a position is held (median, s)."""

    name: str
    patience: float
    holding: float


STYLES = (
    Style("Market Making", 0.97, 8),
    Style("Momentum", 0.35, 45),
    Style("Mean Reversion", 0.75, 60),
    Style("Arbitrage", 0.15, 3),
    Style("Breakout", 0.40, 90),
    Style("Pairs", 0.65, 40),
)


class Position(NamedTuple):
    """An open position: what the opening order got."""

    pit: Pit
    is_long: bool
    quantity: float
    price: float
    pnl: float


class Strategy:
    """One strategy; `engaged` counts its open orders and positions."""

    def __init__(self, number: int, account: Account) -> None:
        self.style = STYLES[number % len(STYLES)]
        self.strategy_id = f"strat-{number + 1:02d}"
        self.name = f"{self.style.name} {number // len(STYLES) + 1}"
        self.account = account
        self.is_running = False
        self.engaged = 0

    def draft(self, event_type: str, properties: dict[str, Any]) -> Draft:
        """An event of this strategy."""
        return Draft(
            TRADING,
            self.strategy_id,
            event_type,
            {"strategy_id": self.strategy_id, **properties},
            self.account.user_id,
        )


class Desk:
    """All strategies. `stretch` lengthens the times between starts and stops at very low rates."""

    def __init__(
        self,
        random: Random,
        agenda: Agenda,
        market: Market,
        exchange: Exchange,
        accounts: list[Account],
        *,
        now: int,
        stretch: float,
    ) -> None:
        self._random = random
        self._agenda = agenda
        self._market = market
        self._exchange = exchange
        self._stretch = stretch
        self._running: list[Strategy] = []
        for number in range(2 * len(STYLES)):
            strategy = Strategy(number, accounts[number % len(accounts)])
            self._schedule_start(strategy, now + int(number * SECOND * 0.5 * stretch))

    def signal(self, now: int) -> Draft | None:
        """A running strategy sees something; nothing if none runs. It may act on it at once."""
        strategy = self._pick()
        if strategy is None:
            return None
        pit = self._market.pick()
        strength = round(self._random.uniform(-1, 1), 4)
        if abs(strength) > 0.6:
            side = "BUY" if strength > 0 else "SELL"
            strategy.engaged += 1
            self._agenda.add(now + 200, lambda time: self._open(strategy, pit, side, time))
        return strategy.draft(
            "signal.generated", {"symbol": pit.instrument.symbol, "signal_strength": strength}
        )

    def trade(self, now: int) -> Draft | None:
        """A running strategy opens a position; nothing if none runs."""
        strategy = self._pick()
        if strategy is None:
            return None
        strategy.engaged += 1
        return self._open(
            strategy, self._market.pick(), "BUY" if self._random.random() < 0.5 else "SELL", now
        )

    def _pick(self) -> Strategy | None:
        running = self._running
        return running[int(self._random.random() * len(running))] if running else None

    def _open(self, strategy: Strategy, pit: Pit, side: str, now: int) -> Draft:
        def ended(order: Order, filled: bool, time: int) -> None:
            if filled:
                terms = order.properties
                position = Position(pit, side == "BUY", terms["quantity"], order.fill_price, order.pnl)
                self._agenda.add(time + 50, lambda at: self._opened(strategy, position, at))
            else:
                self._disengage(strategy, time)

        return self._exchange.place(
            pit=pit,
            side=side,
            quantity=pit.quantity(),
            strategy_id=strategy.strategy_id,
            user_id=strategy.account.user_id,
            patience=strategy.style.patience,
            now=now,
            entry_price=None,
            on_end=ended,
        )

    def _opened(self, strategy: Strategy, position: Position, now: int) -> Draft:
        self._hold(strategy, position, now, strategy.style.holding)
        return self._position_draft(strategy, "position.opened", position, position.price)

    def _hold(self, strategy: Strategy, position: Position, now: int, median_seconds: float) -> None:
        held = int(median_seconds * self._random.lognormvariate(0, 0.8) * SECOND)
        self._agenda.add(now + held, lambda time: self._close(strategy, position, time))

    def _close(self, strategy: Strategy, position: Position, now: int) -> Draft:
        def ended(order: Order, filled: bool, time: int) -> None:
            if filled:
                self._agenda.add(time + 50, lambda at: self._closed(strategy, position, order, at))
            else:
                self._hold(strategy, position, time, 1.0)

        return self._exchange.place(
            pit=position.pit,
            side="SELL" if position.is_long else "BUY",
            quantity=position.quantity,
            strategy_id=strategy.strategy_id,
            user_id=strategy.account.user_id,
            patience=strategy.style.patience,
            now=now,
            entry_price=position.price,
            on_end=ended,
        )

    def _closed(self, strategy: Strategy, position: Position, order: Order, now: int) -> Draft:
        pnl = round(position.pnl + order.pnl, 6)
        strategy.account.book(pnl)
        self._agenda.add(now + 50, strategy.account.statement)
        self._disengage(strategy, now + 100)
        return self._position_draft(strategy, "position.closed", position, order.fill_price, pnl=pnl)

    def _position_draft(
        self, strategy: Strategy, event_type: str, position: Position, price: float, **more: float
    ) -> Draft:
        symbol = position.pit.instrument.symbol
        return strategy.draft(
            event_type, {"symbol": symbol, "quantity": position.quantity, "price": price, **more}
        )

    def _disengage(self, strategy: Strategy, now: int) -> None:
        strategy.engaged -= 1
        if not strategy.engaged and strategy not in self._running and strategy.is_running:
            self._agenda.add(now + SECOND // 10, lambda time: self._stop(strategy, time))

    def _schedule_start(self, strategy: Strategy, time: int) -> None:
        self._agenda.add(time, lambda at: self._start(strategy, at))

    def _start(self, strategy: Strategy, now: int) -> Draft:
        strategy.is_running = True
        self._running.append(strategy)
        shift = int(self._random.uniform(20, 90) * MINUTE * self._stretch)
        self._agenda.add(now + shift, lambda time: self._wind_down(strategy, time))
        return strategy.draft("strategy.started", {"strategy_name": strategy.name})

    def _wind_down(self, strategy: Strategy, now: int) -> Draft | None:
        """No new positions; the strategy stops as soon as nothing is open."""
        self._running.remove(strategy)
        return None if strategy.engaged else self._stop(strategy, now)

    def _stop(self, strategy: Strategy, now: int) -> Draft:
        strategy.is_running = False
        self._schedule_start(strategy, now + int(self._random.uniform(2, 12) * MINUTE * self._stretch))
        return strategy.draft("strategy.stopped", {"strategy_name": strategy.name})
