"""What each route asks of a key: declared beside the route, collected here, enforced before anything else runs.

Belongs here: scopes, and refusing keys that see only a part of the events where an answer is about all of them.
Does not belong here: who it is (`gate`), cutting answers down to a part (the features).

A route without a declaration stops the application from starting, so none is open by accident.
"""

from fastapi import Depends, FastAPI, Request
from fastapi.routing import iter_route_contexts

from api.errors import Forbidden
from api.principal import ANONYMOUS, Principal, principal_of


class Rule:
    """What a route asks for; as a dependency of the route it refuses everybody else.

    Attributes:
        scopes: one of these is enough; none at all: public.
        knows_parts: whether the route cuts its answer down to what the key sees.
    """

    def __init__(self, *scopes: str, knows_parts: bool = False) -> None:
        self.scopes = scopes
        self.knows_parts = knows_parts

    async def __call__(self, request: Request) -> None:
        """As `check`, for FastAPI."""
        self.check(principal_of(request))

    def check(self, principal: Principal) -> None:
        """Refuse, or say nothing.

        Raises:
            Forbidden: the key lacks the scope, or sees only a part.
        """
        if not self.scopes:
            return
        if "admin" not in principal.scopes and principal.scopes.isdisjoint(self.scopes):
            needed = f"This needs a key with the scope {' or '.join(self.scopes)}"
            if principal is ANONYMOUS:
                needed += (
                    ", and keys are off (security.api_key_enabled), so none is looked at: use the command `analytics` "
                    "on the machine, or switch keys on"
                )
            raise Forbidden(f"{needed}.", kind="missing-scope")
        if not (self.knows_parts or principal.reach.is_everything):
            raise Forbidden(
                "This is about all events, and the key sees only a part of them (its event types or dimensions); use "
                "a key that sees everything."
            )


PUBLIC = Depends(Rule())
READ = Depends(Rule("read"))
READ_PART = Depends(Rule("read", knows_parts=True))
WRITE = Depends(Rule("write"))
WRITE_PART = Depends(Rule("write", knows_parts=True))
READ_OR_WRITE = Depends(Rule("read", "write"))
ANY_KEY = Depends(Rule("read", "write", knows_parts=True))
ADMIN = Depends(Rule("admin"))

Rules = dict[tuple[str, str], Rule]
"""By method and path, as the routes are declared."""


def public_prefixes(rules: Rules) -> tuple[str, ...]:
    """Beginnings of paths below which everything is public: routes whose path ends in a parameter of any length."""
    marks = [(path, path.rpartition("{")) for (_, path), rule in rules.items() if not rule.scopes]
    return tuple({before for path, (before, _, name) in marks if before and name.endswith(":path}")})


def rules_of(app: FastAPI) -> Rules:
    """What every route of an application declares; its OpenAPI document is public.

    Raises:
        LookupError: a route declares nothing, or more than one thing.
    """
    rules: Rules = {}
    for route in iter_route_contexts(app.routes):
        path, methods = route.path or "", route.methods or {"GET"}
        declared = [one.dependency for one in getattr(route, "dependencies", ())]
        found = [one for one in declared if isinstance(one, Rule)]
        if path == app.openapi_url:
            found = [Rule()]
        if len(found) != 1:
            raise LookupError(f"{path}: a route declares one rule of api.access, this one has {len(found)}")
        rules |= {(method, path): found[0] for method in methods}
    return rules
