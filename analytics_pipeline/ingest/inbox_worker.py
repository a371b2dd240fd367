"""The landing loop of the inbox: woken by NOTIFY, else by the clock.

The first event after a pause lands at once. While more keep coming, they gather for `pace` seconds before the next
transaction, because a landing costs the same for one event as for hundreds; a full batch never waits.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.decode import Decoded, decode_batches
from analytics_pipeline.events.definitions import Definitions
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import HTTP_SOURCE, Message, RawBatch
from analytics_pipeline.ingest import accounts
from analytics_pipeline.ingest.backoff import Backoff
from analytics_pipeline.storage.landing import CommitUnknown, Lander, Overtaken, TimedOut

_log = structlog.get_logger(__name__)
_LONG = 1.0
"""Seconds of judging, by schemas that somebody defined, that are better spent before a transaction than in it."""


class InboxWorker:
    """Lands posted events; several of these may run at once, in one or many processes."""

    def __init__(
        self,
        *,
        lander: Lander,
        definitions: Callable[[], Definitions],
        limits: Limits,
        batch_size: int,
        poll: float,
        pace: float,
        woken: threading.Event,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._lander = lander
        self._definitions = definitions
        self._limits = limits
        self._batch_size = self._rows = batch_size
        self._judged_in = 0.0
        """Seconds that it took to judge the last events."""
        self._poll = poll
        self._pace = pace
        self._woken = woken
        self._now = now
        self._backoff = Backoff()

    def run(self, stop: threading.Event) -> None:
        """Land until `stop`; what is left in the inbox stays there, durable.

        Raises:
            InvariantBroken: the books do not balance.
        """
        is_slow = False
        while not stop.is_set():
            try:
                landed = self._lander.land_inbox(self._rows, self._decode, is_slow=is_slow)
            except Overtaken:  # several look at the oldest rows: others do their share of them now
                self._rows = max(1, self._rows // 2)
            except TimedOut as error:
                self._rows = max(1, self._rows // 2)
                is_slow = self._judged_in > _LONG
                self._wait(stop, error)
            except CommitUnknown as error:
                # Rows that did not land are still in the inbox, the others are not: there is nothing to resolve.
                self._wait(stop, error)
            except EnvironmentFault as error:
                # A pooler between does not say what ended the session.
                is_slow = is_slow or self._judged_in > _LONG
                self._wait(stop, error)
            else:
                self._backoff.reset()
                is_slow = is_slow and landed is not None and self._judged_in > _LONG
                if not is_slow:
                    self._rows = min(self._batch_size, self._rows * 2)
                if landed is None:
                    self._woken.wait(self._poll)
                    self._woken.clear()
                else:
                    accounts.landed(landed)
                    if sum(line.read for line in landed.lines) < self._rows:
                        stop.wait(max(0.0, self._pace - landed.seconds))
        self._lander.close()

    def _decode(self, messages: Sequence[Message]) -> Decoded:
        began = time.monotonic()
        decoded = decode_batches(
            [RawBatch(HTTP_SOURCE, 0, messages)],
            now=self._now(),
            limits=self._limits,
            definitions=self._definitions(),
        )
        self._judged_in = time.monotonic() - began
        return decoded

    def _wait(self, stop: threading.Event, error: EnvironmentFault) -> None:
        accounts.failed(error)
        wait = self._backoff.next()
        _log.warning("the inbox waits", reason=str(error), seconds=round(wait, 1), source=HTTP_SOURCE)
        stop.wait(wait)
