"""`/api/v1/events/{id}`: one event, by its id and, where the id does not say it, its timestamp.

Belongs here: what is asked for. Does not belong here: ids in lists of events (`listing`), SQL (`pages`).
"""

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.events.times import MICROSECOND
from api.errors import invalid_parameter
from api.events.identity import range_near, read_id
from api.events.listing import EventList, Filters
from api.parameters import AFTER, Parameter, Query

TIMESTAMP = Parameter(
    "timestamp",
    "The event's own timestamp, to the microsecond: RFC 3339 with a zone. Ids made here and UUIDs of version 7 hold "
    "the time near which the event is looked for; others need it.",
    "2026-01-31T12:00:00Z",
    (("type", "string"), ("format", "date-time")),
)
PARAMETERS = (TIMESTAMP,)


def read_single(text: str, query_string: bytes, *, reach: Reach) -> EventList:
    """Understand an id and a query string, for who sees only `reach`; of several events of an id the newest.

    Raises:
        BadRequest: the id is no UUID, or says nothing about the time and there is no timestamp.
    """
    identity = read_id(text)
    at = Query(query_string, (*PARAMETERS, AFTER)).time(TIMESTAMP)
    near = (at, at + MICROSECOND) if at is not None else range_near(identity)
    if near is None:
        raise invalid_parameter(
            TIMESTAMP.name, "is needed, because an id of this kind does not hold the time of its event"
        )
    return EventList(Filters(*near, id=identity, reach=reach), limit=1)
