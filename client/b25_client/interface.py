"""What every producer can do, over REST or Kafka alike.

Belongs here: the methods, and what is the same for all: making events, counting results, the end of the process.
Does not belong here: how events travel (`producer`, `kafka`).
"""

import atexit
import logging
import os
import re
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from b25_client.errors import ClientError, Closed, Forked, NotDelivered, ProducerFailed
from b25_client.events import Event, make_event
from b25_client.results import Report, Result

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+_-]{0,63}", re.ASCII)

OnResult = Callable[[Result], None]

CLOSE_TIMEOUT = 30.0
"""Seconds that `close`, and the end of the process, wait for results."""

_log = logging.getLogger("b25_client")


class EventProducer(ABC):
    """Sends events in the background; all methods may be called from any thread.

    A producer belongs to the process that made it: after a fork the child makes its own.
    """

    _thread: threading.Thread
    """Where results come from."""

    def __init__(self, on_result: OnResult | None) -> None:
        self._on_result = on_result
        self._report = Report()
        self._failure: BaseException | None = None
        """What went wrong in the background; a callback's error does not end the thread."""
        self._is_dead = False
        self._is_closed = False
        self._process = os.getpid()
        self._changed = threading.Condition()
        """Guards everything above and the buffer; notified when any of it changes."""
        self._at_exit = _flush_at_exit(weakref.ref(self))
        atexit.register(self._at_exit)

    def send(
        self,
        event_type: str,
        properties: Mapping[str, Any] | None = None,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        timestamp: datetime | None = None,
        id: UUID | None = None,
    ) -> UUID:
        """Queue one event and return its id; the result comes later, to `on_result` and `report`.

        Args:
            event_type: 1 to 255 characters.
            properties: what JSON can say; UUIDs and times with a zone become text.
            user_id: at most 255 characters.
            session_id: at most 255 characters.
            timestamp: when it happened, with a zone; now if absent.
            id: a UUIDv7 of `timestamp` if absent. An event of the same id and timestamp as before counts once.

        Raises:
            InvalidEvent: it breaks the contract in a way that is certain here. Nothing was queued, and there is no
                result.
            BufferFull: no room in time.
            Closed, Forked, ProducerFailed: this producer cannot send any more.
        """
        self._check()
        event = make_event(
            event_type,
            properties,
            user_id=user_id,
            session_id=session_id,
            timestamp=timestamp,
            id=id,
        )
        self.send_event(event)
        return event.id

    @abstractmethod
    def send_event(self, event: Event) -> None:
        """Queue an event made before by `make_event`, or one whose result was `undelivered`.

        Raises:
            As `send`.
        """

    def report(self) -> Report:
        """The sums so far."""
        with self._changed:
            return self._report.copy()

    def flush(self, timeout: float | None = None) -> Report:
        """Send what is queued, without lingering, and wait until all events sent before have a result.

        Args:
            timeout: seconds; None waits as long as it takes.

        Returns:
            The sums. Events may have been refused: look at `refused` and `reasons`.

        Raises:
            NotDelivered: time ran out; the events stay queued.
            Forked, ProducerFailed: they will never have a result here.
            ClientError: called by `on_result`, for which the results wait.
        """
        self._check_process()
        self._check_thread()
        with self._changed:
            last = self._last_sent()
        self._hurry()
        with self._changed:
            is_done = self._changed.wait_for(lambda: self._is_settled(last) or self._is_dead, timeout)
            self._raise_failure()
            if not is_done:
                raise NotDelivered(self._report.waiting, timeout or 0.0)
            return self._report.copy()

    def close(self, timeout: float | None = CLOSE_TIMEOUT) -> Report:
        """Flush, then stop; what has no result by then is `undelivered`. Closing twice is allowed.

        Raises:
            NotDelivered: some events were given up.
            ClientError: called by `on_result`.
        """
        self._check_process()
        self._check_thread()
        with self._changed:
            if self._is_closed:
                return self._report.copy()
            self._is_closed = True
        atexit.unregister(self._at_exit)
        try:
            return self.flush(timeout)
        finally:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; an error that is already on its way is not hidden by one of closing."""
        try:
            self.close()
        except NotDelivered:
            if error is None:
                raise
            _log.warning("events were given up while another error was on its way")

    @abstractmethod
    def _hurry(self) -> None:
        """Send what is queued at once."""

    @abstractmethod
    def _stop(self) -> None:
        """Give up what has no result, end the thread, disconnect."""

    def _settle(self, results: list[Result]) -> None:
        """Tell about results, then count them: when `flush` returns, every callback has run."""
        if self._on_result is not None:
            for result in results:
                try:
                    self._on_result(result)
                except Exception as error:  # noqa: BLE001  (raised again by `flush`, `close` and `send`)
                    with self._changed:
                        self._failure = self._failure or error
        with self._changed:
            for result in results:
                self._report.add(result)
            self._forget(results)
            self._changed.notify_all()

    def _forget(self, results: list[Result]) -> None:  # noqa: B027  (most have nothing to forget)
        """Free the room of events that have a result; called with the lock held."""

    def _die(self, error: BaseException) -> None:
        """The thread ends: nothing will have a result any more."""
        with self._changed:
            self._failure = self._failure or error
            self._is_dead = True
            self._changed.notify_all()

    def _check(self) -> None:
        self._check_process()
        with self._changed:
            self._check_open()

    def _check_open(self) -> None:
        """Call it with the lock held."""
        self._raise_failure()
        if self._is_closed:
            raise Closed("this producer is closed")

    @abstractmethod
    def _last_sent(self) -> int:
        """Number of the last event; called with the lock held."""

    @abstractmethod
    def _is_settled(self, last: int) -> bool:
        """Whether the events up to that number have results; called with the lock held."""

    def _check_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise ClientError("a callback of results cannot wait for results")

    def _patience(self, max_block: float) -> float:
        """How long to wait for room: not at all in the thread that makes room."""
        return 0.0 if threading.current_thread() is self._thread else max_block

    def _check_process(self) -> None:
        # Before any lock is taken: another thread of the parent may have held it during the fork.
        if os.getpid() != self._process:
            raise Forked

    def _raise_failure(self) -> None:
        if self._failure is not None:
            what = f"{type(self._failure).__name__} in the background"
            raise ProducerFailed(f"this producer cannot go on: {what}") from self._failure


def check_name(client_id: str | None) -> str | None:
    """A name as the service keeps it.

    Raises:
        ValueError: it would be counted as `__other__`.
    """
    if client_id is not None and not _NAME.fullmatch(client_id):
        raise ValueError(
            "client_id: 1 to 64 ASCII letters, digits and ._:/@+-, beginning with a letter or digit"
        )
    return client_id


def _flush_at_exit(reference: "weakref.ref[EventProducer]") -> Callable[[], None]:
    """Close a producer that nobody closed, unless this is a child of the process that made it."""
    process = os.getpid()

    def close() -> None:
        producer = reference()
        if producer is None or os.getpid() != process:
            return
        try:
            producer.close()
        except NotDelivered as error:
            _log.error("the process ends: %s", error)

    return close
