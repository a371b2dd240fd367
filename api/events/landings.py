"""`/api/v1/events/landings/{token}`: what became of posted events, at once or as soon as it is known.

Belongs here: waiting, and the answer. Does not belong here: how it is known (`storage.inbox`).
"""

import asyncio
from typing import Literal

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from analytics_pipeline.storage import inbox
from analytics_pipeline.storage.inbox import Landing, Outcome
from api.access import READ_OR_WRITE
from api.database import Database
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import NotFound
from api.parameters import Parameter, Query, openapi_parameters

router = APIRouter(tags=["Events"])
PATH = "/api/v1/events/landings/{token}"

MOST_SECONDS = 30
WAIT = Parameter(
    "wait",
    f"Seconds to wait for the landing, at most {MOST_SECONDS}. Default 0: answer at once.",
    5,
    (("type", "integer"), ("minimum", 0), ("maximum", MOST_SECONDS)),
)

_SHORTEST, _LONGEST = 0.02, 0.2
_NO_STORE = {"Cache-Control": "no-store"}


class Exceptional(BaseModel):
    """An event that was not stored by this request."""

    position: int = Field(description="Among the accepted events of the request, from 0.")
    outcome: Literal["duplicate", "dead"]
    reason: str | None = Field(default=None, description="Why it is a dead letter; a reason code.")


class LandingAnswer(BaseModel):
    """What became of the events of one request; all of them land in one transaction."""

    landing: str = Field(examples=["10000-0-1"])
    state: Literal["waiting", "landed"]
    events: int = Field(description="Accepted by the request.")
    stored: int
    duplicate: int = Field(description="Stored already, by an earlier request or message.")
    dead: int = Field(description="Became dead letters after all.")
    exceptions: list[Exceptional]


async def wait_for(database: Database, landing: Landing, seconds: float) -> Outcome | None:
    """The outcome, as soon as it is known or when the time is up; None if there was no such landing.

    Raises:
        Unavailable: Postgres is down or busy.
    """
    clock = asyncio.get_running_loop().time
    deadline, pause = clock() + seconds, _SHORTEST
    while True:
        async with database.read("landing") as connection:
            outcome = await inbox.outcome(connection, landing)
        left = deadline - clock()
        if outcome is None or not outcome.is_waiting or left <= 0:
            return outcome
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST)


@router.get(
    PATH,
    summary="Tell what became of posted events",
    response_model=LandingAnswer,
    responses=errors(400, 404, 429, 503),
    openapi_extra=openapi_parameters([WAIT]),
    dependencies=[READ_OR_WRITE],
)
async def get_landing(token: str, request: Request, services: ServicesDependency) -> Response:
    """For the token of `X-Landing-Token`: whether the events wait, were stored, were there already, or are dead."""
    seconds = Query(request.scope["query_string"], [WAIT]).number(WAIT, default=0, low=0, high=MOST_SECONDS)
    landing = Landing.parse(token)
    outcome = None if landing is None else await wait_for(services.database, landing, seconds)
    if outcome is None:
        raise NotFound("No request was given this landing token.")
    return Response(orjson.dumps(_content(token, outcome)), media_type="application/json", headers=_NO_STORE)


def _content(token: str, outcome: Outcome) -> dict[str, object]:
    exceptions: dict[int, dict[str, object]] = {
        position: {"position": position, "outcome": "duplicate"} for position in outcome.duplicates
    }
    for position, reason in outcome.dead:
        exceptions[position] = {"position": position, "outcome": "dead", "reason": reason}
    return {
        "landing": token,
        "state": "waiting" if outcome.is_waiting else "landed",
        "events": outcome.events,
        "stored": outcome.stored,
        "duplicate": len(outcome.duplicates),
        "dead": len(outcome.dead),
        "exceptions": [exceptions[position] for position in sorted(exceptions)],
    }
