"""The one error of this layer: a message that will never be an event."""

from analytics_pipeline.errors import DataError
from analytics_pipeline.events.reasons import Reason


class Rejected(DataError):
    """The message is not an event: a dead letter from Kafka, a 400 over HTTP; never retried.

    Attributes:
        reason: the code.
        detail: what exactly, without repeating the producer's data.
        path: JSON path of the culprit, `$` for the whole message.
        event_type: the type, where the message was good enough to tell.
    """

    event_type: str | None = None

    def __init__(self, reason: Reason, detail: str = "", path: str = "$") -> None:
        super().__init__(f"{path}: {detail or reason.meaning}")
        self.reason = reason
        self.detail = detail or reason.meaning
        self.path = path
