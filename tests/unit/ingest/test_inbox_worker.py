"""The landing loop of posted events: what it makes of an attempt that took too long."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from analytics_pipeline.events.definitions import NO_DEFINITIONS
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.ingest import inbox_worker
from analytics_pipeline.ingest.inbox_worker import InboxWorker
from analytics_pipeline.storage.landing import TimedOut


class Attempts:
    """In place of a `Lander`: the first two attempts take too long, the third finds nothing more."""

    def __init__(self, stop: threading.Event) -> None:
        self.asked: list[tuple[int, bool]] = []
        self._stop = stop

    def land_inbox(self, limit: int, decode: Callable[[list[Any]], Any], *, is_slow: bool) -> None:
        self.asked.append((limit, is_slow))
        decode([])
        if len(self.asked) <= 2:
            raise TimedOut("too long")
        if len(self.asked) == 4:
            self._stop.set()

    def close(self) -> None: ...


@pytest.mark.parametrize(("long", "slow"), [(-1.0, True), (1e9, False)])
def test_half_is_tried_and_judged_first_where_judging_was_what_took_long(
    monkeypatch: pytest.MonkeyPatch, long: float, slow: bool
) -> None:
    monkeypatch.setattr(inbox_worker, "_LONG", long)
    stop, woken = threading.Event(), threading.Event()
    attempts = Attempts(stop)
    InboxWorker(
        lander=attempts,  # type: ignore[arg-type]
        definitions=lambda: NO_DEFINITIONS,
        limits=Limits(),
        batch_size=100,
        poll=0.01,
        pace=0.0,
        woken=woken,
    ).run(stop)
    assert attempts.asked == [(100, False), (50, slow), (25, slow), (50, False)]
