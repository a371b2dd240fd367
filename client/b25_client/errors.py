"""Everything the client raises.

    ClientError
    ├── InvalidEvent      the event breaks the contract in a way that is certain here: nothing was queued
    ├── BufferFull        no room for longer than `max_block`: the service is slower than the sender; nothing was queued
    ├── NotDelivered      `flush` or `close` ran out of time; `left` events have no result yet
    ├── Closed            the producer was closed
    ├── Forked            the producer was made in a parent process: make one in each process
    └── ProducerFailed    the background thread ended, or a callback raised; the cause is attached

What the service says about an event is no exception but a `Result`: by then `send` has long returned.
"""


class ClientError(Exception):
    """Any of them."""


class InvalidEvent(ClientError, ValueError):
    """The event breaks the contract: mend the caller."""


class BufferFull(ClientError):
    """There was no room for the event in time: try later, or drop it knowingly."""


class NotDelivered(ClientError, TimeoutError):
    """Time ran out.

    Attributes:
        left: events that have no result yet; they stay queued unless the producer was closed.
    """

    def __init__(self, left: int, seconds: float) -> None:
        super().__init__(f"{left} events have no result after {seconds:g} s")
        self.left = left


class Closed(ClientError):
    """`close` was called before."""


class Forked(ClientError):
    """Threads do not survive a fork."""

    def __init__(self) -> None:
        super().__init__("this producer was made in the parent process: make one after the fork")


class ProducerFailed(ClientError):
    """The background thread cannot go on, or a callback raised."""
