"""`Landings` on a thread of its own, so that one batch is read and decoded while the one before it lands.

Belongs here: that a landing connection is used by one thread, one call after the other, in the order asked.
Does not belong here: what may be read ahead, and what a failure means for it (`worker`).
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.ingest.landings import Landings
from analytics_pipeline.storage.landing import Deltas, Landed
from analytics_pipeline.storage.offsets import Claim, Partition, Span
from analytics_pipeline.storage.standings import Stop

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class LandingThread:
    """See `Landings`; calls of the database, but for `launch`, wait for their result and for all calls before them."""

    def __init__(self, landings: Landings) -> None:
        self._landings = landings
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        # A daemon (those of ThreadPoolExecutor are none): a server that never answers must not keep the process alive.
        threading.Thread(target=_serve, args=(self._calls,), name="landing", daemon=True).start()
        self._end = weakref.finalize(self, self._calls.put, None)

    def deltas_ahead(self, decoded: Decoded) -> Deltas | None:
        """What can be computed before the transaction: by the caller's thread."""
        return self._landings.deltas_ahead(decoded)

    def launch(self, spans: Sequence[Span], decoded: Decoded, deltas: Deltas | None = None) -> Future[Landed]:
        """Begin to land a batch; the result has the outcome or the error of `land`."""
        return self._submit(self._landings.land, spans, decoded, deltas)

    def land(self, spans: Sequence[Span], decoded: Decoded, deltas: Deltas | None = None) -> Landed:
        """One transaction."""
        return self.launch(spans, decoded, deltas).result()

    def claim(
        self, partition: Partition, first_offset: int, of_new_source: Mapping[int, int] | None = None
    ) -> Claim:
        """Become the owner."""
        return self._submit(self._landings.claim, partition, first_offset, of_new_source).result()

    def claims(self, partitions: Iterable[Partition]) -> Mapping[Partition, Claim]:
        """How things stand."""
        return self._submit(self._landings.claims, list(partitions)).result()

    def history(self, partition: Partition) -> Sequence[tuple[int, int]]:
        """(read, dead) of its last batches."""
        return self._submit(self._landings.history, partition).result()

    def identify(self, partition: Partition, claimed: Claim, topic_id: str) -> str | None:
        """Which topic the offsets count in."""
        return self._submit(self._landings.identify, partition, claimed, topic_id).result()

    def resolve(self, spans: Sequence[Span]) -> bool:
        """Whether a batch landed whose COMMIT got no answer."""
        return self._submit(self._landings.resolve, spans).result()

    def note_caught_up(self, notes: Mapping[Partition, tuple[Claim, datetime]]) -> None:
        """How fresh idle partitions are."""
        self._submit(self._landings.note_caught_up, notes).result()

    def note_stops(self, notes: Mapping[Partition, tuple[Claim, Stop | None]]) -> None:
        """Which partitions are stopped."""
        self._submit(self._landings.note_stops, notes).result()

    def note_silence(self, since: datetime | None) -> None:
        """Since when Kafka does not answer."""
        self._submit(self._landings.note_silence, since).result()

    def close(self) -> None:
        """Disconnect, and end the thread."""
        try:
            self._submit(self._landings.close).result()
        finally:
            self._end()

    def _submit(
        self, do: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> Future[_Result]:
        if not self._end.alive:
            raise RuntimeError("the landing thread was closed")
        future: Future[_Result] = Future()
        self._calls.put((future, partial(do, *args, **kwargs)))
        return future


def _serve(calls: "SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]") -> None:
    while (call := calls.get()) is not None:
        future, do = call
        try:
            future.set_result(do())
        except BaseException as error:  # noqa: BLE001  (raised again by whoever asks for the result)
            future.set_exception(error)
        # Nothing of a batch is kept while the next call is waited for; and the error, whose traceback holds these
        # names, is held by the future: only the garbage collector would part them.
        del call, future, do
