"""Ids of events as callers write them, and the times inside them.

Belongs here: reading an id, and where its event is looked for. Does not belong here: the layout of ids
(`analytics_pipeline.events.ids`), what is asked for beside the id (`listing`, `single`).
"""

from datetime import datetime, timedelta
from uuid import UUID

from analytics_pipeline.events.ids import time_of
from analytics_pipeline.events.times import EPOCH
from api.errors import invalid_parameter
from api.times import LATEST

_AROUND = timedelta(seconds=1)
"""How far an event's timestamp may lie from the time inside its id, to be found by the id alone."""


def read_id(text: str) -> UUID:
    """An id of an event.

    Raises:
        BadRequest: it is none.
    """
    try:
        return UUID(text)
    except ValueError:
        raise invalid_parameter("id", "is not a UUID") from None


def range_near(identity: UUID) -> tuple[datetime, datetime] | None:
    """Where the event of an id is looked for that holds a time; None for other ids."""
    said = time_of(identity)
    if said is None:
        return None
    at = min(said, LATEST)  # an id may say the end of the year 9999, behind which there is no time
    return max(EPOCH, at - _AROUND), at + _AROUND
