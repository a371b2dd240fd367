"""The stream: one message for every slot of time.

What is due (a fill, a logout, the end of a holding time) comes first and carries the time it was due at; a
slot with nothing due is filled with a trade in the market, a signal, an order or a click. So the rate is
exactly that of the slots, the times of events never go backwards, and a fill comes its own latency after
its order at every rate.
"""

from random import Random

from analytics_pipeline.simulator.accounts import open_accounts
from analytics_pipeline.simulator.agenda import Agenda
from analytics_pipeline.simulator.alerts import Watch
from analytics_pipeline.simulator.envelope import SECOND, Message, Sealer
from analytics_pipeline.simulator.faults import Faults, Ratios
from analytics_pipeline.simulator.market import Market
from analytics_pipeline.simulator.orders import Exchange
from analytics_pipeline.simulator.strategies import Desk
from analytics_pipeline.simulator.users import Crowd

TRADE, SIGNAL, ORDER = 0.70, 0.76, 0.88
"""Draws for a slot with nothing due: below 0.70 a trade, 0.76 a signal, 0.88 an order, else a user."""

COMFORTABLE_RATE = 3.0
"""Below this many events a second, logins, starts and alerts are stretched in time, so that they fit in."""

ACCOUNTS = 12


class Stream:
    """The simulation. `rate` (events/s) only paces what happens by the clock; slots come from the caller.

    Prices begin at their base and, if there is an `end` (µs), are near it again there: where one simulation follows
    another, no price jumps.
    """

    def __init__(self, *, seed: int, start: int, rate: float, ratios: Ratios, end: int | None = None) -> None:
        # Not for secrets: a seeded source makes a stream that can be had again.
        random = Random(seed)  # noqa: S311
        stretch = max(1.0, COMFORTABLE_RATE / rate)
        self._random = random
        self._agenda = Agenda()
        self._market = Market(random, start, end)
        exchange = Exchange(random, self._agenda, f"ord-{start // SECOND:x}")
        self._desk = Desk(
            random,
            self._agenda,
            self._market,
            exchange,
            open_accounts(random, ACCOUNTS),
            now=start,
            stretch=stretch,
        )
        self._crowd = Crowd(random, self._agenda, now=start, stretch=stretch)
        self._watch = Watch(random, self._agenda, now=start, stretch=stretch)
        self._sealer = Sealer(random)
        self._faults = Faults(random, ratios, start)

    def message(self, slot: int) -> Message:
        """The message of the slot at time `slot` (µs); slots must not go backwards."""
        fault = self._faults.draw(slot)
        if fault is None:
            message = self._event(slot)
            self._faults.remember(message)
            return message
        if fault == "late":
            time = slot - self._faults.delay()
            return self._sealer.seal(self._market.belated(time), time)
        if fault == "duplicate":
            return self._faults.duplicate()
        return self._faults.broken(slot)

    def _event(self, slot: int) -> Message:
        while (due := self._agenda.next_before(slot)) is not None:
            time, action = due
            draft = action(time)
            if draft is not None:
                return self._sealer.seal(draft, time)
        chance = self._random.random()
        if chance < TRADE:
            draft = None
        elif chance < SIGNAL:
            draft = self._desk.signal(slot)
        elif chance < ORDER:
            draft = self._desk.trade(slot)
        else:
            draft = self._crowd.act(slot)
        return self._sealer.seal(draft or self._market.trade(slot), slot)
