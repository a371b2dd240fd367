"""A day of history before the first look: sent once by the simulator, landed by the same code as everything.

Belongs here: that it happens once, also when a first attempt was interrupted. Does not belong here: its events.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack.applications import history
from analytics_pipeline.local_stack.child import Child, describe_exit
from analytics_pipeline.local_stack.display import Display
from analytics_pipeline.local_stack.plan import Plan
from analytics_pipeline.local_stack.processes import Started
from analytics_pipeline.local_stack.pulse import Pulse

_LANDS_WITHIN = 120.0


class Past:
    """Sends the history unless `history.json` says that it was sent."""

    def __init__(self, plan: Plan, display: Display, pulse: Pulse) -> None:
        self._plan = plan
        self._display = display
        self._pulse = pulse
        self._note = plan.folder.path / "history.json"

    @property
    def is_due(self) -> bool:
        """Whether it is still to be sent."""
        simulator = self._plan.settings.simulator
        if not simulator.history_events or simulator.history <= timedelta(0):
            return False
        return not self._read().get("is_sent", False)

    def land(self, nap: Callable[[], None], remember: Callable[[Started | None], None]) -> None:
        """Send it and wait until it has landed (two minutes at most: then it goes on landing behind the rest).

        An attempt after an interrupted one repeats the same events: what had landed counts as duplicate.

        Args:
            nap: waits a little; raises when there is a reason not to go on.
            remember: is told the process while it runs, then None.

        Raises:
            EnvironmentFault: it could not be sent.
        """
        until = str(self._read().get("until") or datetime.now(UTC).isoformat())
        self._note.write_text(json.dumps({"until": until, "is_sent": False}))
        began = time.monotonic()
        code = self._send(until, nap, remember)
        if code != 0:
            raise EnvironmentFault(
                f"the simulator could not send its history ({describe_exit(code)}): see "
                f"{self._plan.folder.logs}/history.log, or start without it: analytics up --no-simulator"
            )
        self._note.write_text(json.dumps({"until": until, "is_sent": True}))
        sent_at, limit = datetime.now(UTC), time.monotonic() + _LANDS_WITHIN
        while not self._has_landed(sent_at) and time.monotonic() < limit:
            self._show()
            nap()
        sample = self._pulse.latest
        self._display.event("history", f"{sample.stored:,} events landed in {time.monotonic() - began:.1f} s")

    def _send(
        self, until: str, nap: Callable[[], None], remember: Callable[[Started | None], None]
    ) -> int | None:
        child = Child(history(self._plan, until), self._plan.folder.logs)
        child.start()
        remember(Started(child.pid or 0, child.created))
        try:
            while child.is_running:
                self._show()
                nap()
        finally:
            child.stop()
            remember(None)
        return child.exit_code

    def _show(self) -> None:
        self._display.step(f"landing history, once: {self._pulse.latest.stored:,} events stored")

    def _has_landed(self, sent_at: datetime) -> bool:
        sample = self._pulse.latest
        return sample.read_at is not None and sample.read_at > sent_at and sample.lag == 0

    def _read(self) -> dict[str, object]:
        with suppress(OSError, ValueError):
            content = json.loads(self._note.read_text())
            if isinstance(content, dict):
                return content
        return {}
