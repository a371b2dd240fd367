"""Names of definitions in paths: event types, slashes included.

Belongs here: reading them, and who may ask about them. Does not belong here: what an event type may be (`schemas`).

What belongs to a definition has a path below its own. A name may look like one, so a slash of a name is written %2F
there, as everything in a path parameter is: `/custom-events/a%2Fversions` is the definition `a/versions`.
"""

from fastapi import Request

from analytics_pipeline.events.document import is_encodable
from analytics_pipeline.events.limits import MAX_TEXT
from api.custom_events.repository import no_such_definition
from api.errors import Forbidden
from api.principal import reach_of

PATH = "/api/v1/custom-events"
ONE = PATH + "/{name:path}"


def is_below(request: Request, ending: str) -> bool:
    """Whether the path ends so, written with slashes of its own."""
    raw: bytes | None = request.scope.get("raw_path")
    return raw is None or raw.partition(b"?")[0].endswith(ending.encode())


def name_to_read(name: str, request: Request) -> str:
    """The name, for whoever sees its events.

    Raises:
        Forbidden: the key does not see them.
        NotFound: no event can be of this type.
    """
    if not reach_of(request).has_type(name):
        raise Forbidden("The key does not see events of this type.")
    return _possible(name)


def name_to_change(name: str, request: Request) -> str:
    """The name, for whoever sees all of its events.

    Raises:
        Forbidden: the key sees only a part of them.
        NotFound: no event can be of this type.
    """
    reach = reach_of(request)
    if not reach.has_type(name) or reach.dimensions:
        raise Forbidden("A definition judges all events of its type, and the key sees only a part of them.")
    return _possible(name)


def _possible(name: str) -> str:
    if not name or "\0" in name or len(name) > MAX_TEXT or not is_encodable(name):
        raise no_such_definition()
    return name
