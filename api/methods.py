"""Which methods a path has: several routes may share one, and a refusal names the methods of all of them.

Belongs here: the Allow header of a 405, and which paths answer HEAD. Does not belong here: routes, answering (`edge`).
"""

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

_STREAMS = "/api/v1/stream/"


def has_head(path: str) -> bool:
    """Whether HEAD is answered where GET is: of a stream of events there is nothing to say before it runs."""
    return not path.startswith(_STREAMS)


def allowed(app: FastAPI, path: str) -> str:
    """The Allow header of a path that is ours."""
    found: set[str] = set()
    for route in iter_route_contexts(app.routes):
        pattern, _, _ = compile_path(route.path or "")
        if pattern.match(path):
            found |= route.methods or {"GET"}
    if "GET" in found and has_head(path):
        found.add("HEAD")
    return ", ".join(sorted(found))
