"""Which methods a path has: several routes may share one, and a refusal names the methods of all of them.

Belongs here: the Allow header of a 405. Does not belong here: routes.
"""

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path


def allowed(app: FastAPI, path: str) -> str:
    """The Allow header of a path that is ours."""
    found: set[str] = set()
    for route in iter_route_contexts(app.routes):
        pattern, _, _ = compile_path(route.path or "")
        if pattern.match(path):
            found |= route.methods or {"GET"}
    return ", ".join(sorted(found))
