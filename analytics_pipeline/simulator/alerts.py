"""Alerts: now and then something needs a person's eye."""

from random import Random

from analytics_pipeline.simulator.agenda import Agenda
from analytics_pipeline.simulator.envelope import SECOND, TRADING, Draft

INTERVAL = 40.0
"""Seconds between two alerts, on average."""

MESSAGES = (
    ("info", "Strategy parameters reloaded"),
    ("info", "Daily volume target reached"),
    ("info", "Maintenance window announced by the exchange"),
    ("warning", "Order latency above 50 ms"),
    ("warning", "Spread wider than usual"),
    ("warning", "Position limit at 80 %"),
    ("critical", "Market data feed reconnected"),
    ("critical", "Daily loss limit reached"),
)


class Watch:
    """Raises alerts at random times."""

    def __init__(self, random: Random, agenda: Agenda, *, now: int, stretch: float) -> None:
        self._random = random
        self._agenda = agenda
        self._rate = 1 / (INTERVAL * stretch)
        self._schedule(now)

    def _schedule(self, now: int) -> None:
        self._agenda.add(now + int(self._random.expovariate(self._rate) * SECOND), self._raise)

    def _raise(self, now: int) -> Draft:
        self._schedule(now)
        # Squaring prefers the beginning of the list: criticals are the rarest.
        severity, message = MESSAGES[int(self._random.random() ** 2 * len(MESSAGES))]
        return Draft(TRADING, "alerts", "alert.triggered", {"severity": severity, "message": message})
