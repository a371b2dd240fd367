"""How fresh the partitions of one worker are: lag for the operator, `caught_up_at` for the state of buckets, stalls.

Belongs here: carrying Kafka's watermarks to the partitions, writing down what idle ones have reached (a batch carries
its own note along) and which are stopped, and starting over when Kafka holds messages that never come. A failure to
write only makes things look older than they are.
"""

import time
from collections.abc import Callable
from datetime import datetime

import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest import accounts
from analytics_pipeline.ingest.consumer import PositionLost
from analytics_pipeline.ingest.landings import Landings
from analytics_pipeline.ingest.ownership import Ownership
from analytics_pipeline.ingest.stalls import Kind, Stall, Stalls, View
from analytics_pipeline.ingest.watermarks import WatermarkSource

_log = structlog.get_logger(__name__)

STALL_SECONDS = 30.0


class Freshness:
    """Asked about four times a second by the worker whose partitions these are.

    Args:
        landings: where freshness is written down.
        ownership: the partitions.
        watermarks: what Kafka holds.
        silent_since: since when Kafka has not answered this process; None: it does.
        stall_after: seconds that a partition may stand still although Kafka holds more.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        landings: Landings,
        ownership: Ownership,
        watermarks: WatermarkSource,
        *,
        silent_since: Callable[[], datetime | None] = lambda: None,
        stall_after: float = STALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._landings = landings
        self._ownership = ownership
        self._watermarks = watermarks
        self._stalls = Stalls(stall_after)
        self._clock = clock
        self._silent_since = silent_since
        self._noted_silence: datetime | None = None

    def note(self, *, is_reading: bool = True) -> None:
        """Take over the newest watermarks, and look for partitions that stand still.

        Args:
            is_reading: whether messages are asked for; not so under back-pressure.

        Raises:
            PositionLost: Kafka holds messages that do not come: a new consumer is needed.
        """
        views, stopped, claimed = [], 0, self._ownership.all
        for owned in claimed:
            note = self._watermarks.latest(owned.key)
            stopped += owned.stopped is not None
            if note is None:
                continue
            if owned.stopped is not None:  # what a topic holds that was made anew waits from its beginning on
                accounts.lag(owned.key, note.high - owned.stopped.goes_on_at)
                continue
            owned.notes.add(note, next_offset=owned.next_offset)
            accounts.lag(owned.key, note.high - owned.next_offset)
            views.append(View(owned.key, owned.fetched_to, owned.next_offset, note.high))
        count = len(claimed)
        accounts.partitions(self, owned=count, paused=0 if is_reading else count - stopped, stopped=stopped)
        self._judge(self._stalls.look(self._clock(), views, is_reading=is_reading))

    def _judge(self, stalls: list[Stall]) -> None:
        stuck = []
        real = [one for one in stalls if one.kind is Kind.LANDING or self._has_more(one.view)]
        accounts.stalled(self, [one.kind for one in real])
        for one in real:
            if one.is_new or one.kind is Kind.FETCH:
                _tell(one)
            if one.kind is Kind.FETCH:
                self._stalls.forget(one.view.partition)
                stuck.append(f"{one.view.partition[0]}/{one.view.partition[1]}@{one.view.fetched_to}")
        if stuck:
            raise PositionLost(f"Kafka holds messages that do not come: {', '.join(stuck)}")

    def _has_more(self, view: View) -> bool:
        """Whether a consumer could read on: beyond an open transaction, and while Kafka is away, it could not."""
        end = self._watermarks.readable_end(view.partition)
        if end is not None and end > view.fetched_to:
            return True
        self._stalls.forget(view.partition)
        return False

    def leave(self) -> None:
        """Speak for no partition any more: the worker has left the group."""
        accounts.left(self)

    def write(self) -> None:
        """Write down what idle partitions have reached, what is stopped, whether Kafka is silent; see what is ours."""
        idle = [owned for owned in self._ownership if not owned.has_work]
        reached = {owned: at for owned in idle if (at := owned.notes.reached(owned.next_offset)) is not None}
        silent_since = self._silent_since()
        unnoted = [owned for owned in self._ownership.all if not owned.is_stop_noted]
        try:
            if unnoted:
                self._landings.note_stops({owned.key: (owned.claim, owned.stopped) for owned in unnoted})
                for owned in unnoted:
                    owned.is_stop_noted = True
            if silent_since != self._noted_silence:
                self._landings.note_silence(silent_since)
                self._noted_silence = silent_since
            if reached:
                self._landings.note_caught_up({owned.key: (owned.claim, at) for owned, at in reached.items()})
            self._ownership.look_at_claims()
        except EnvironmentFault as error:
            _log.warning("freshness was not written down", reason=str(error))
            return
        for owned, at in reached.items():
            owned.notes.forget(at)


def _tell(stall: Stall) -> None:
    view = stall.view
    accounts.stall(stall.kind)
    _log.error(
        "partition does not move",
        kind=stall.kind.value,
        topic=view.partition[0],
        partition=view.partition[1],
        next_offset=view.next_offset,
        fetched_to=view.fetched_to,
        kafka_end=view.high,
        seconds=round(stall.seconds, 1),
    )
