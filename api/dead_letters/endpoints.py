"""`/api/v1/dead-letters`: list, group, read, export, replay and discard messages that could not become events."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from analytics_pipeline.events.reach import EVERYTHING
from analytics_pipeline.storage.dead_letters import Filter
from api.access import ADMIN, READ_PART
from api.answers import NOT_MODIFIED
from api.audit import SUBJECT
from api.cursors import CURSOR, read_cursor, write_cursor
from api.dead_letters import schemas
from api.dead_letters.filters import (
    PARAMETERS,
    chosen,
    flag,
    id_of,
    read_filter,
    read_object,
    seen,
    text_of,
    whole,
)
from api.dead_letters.repository import (
    count_open,
    discard_letters,
    export_lines,
    list_groups,
    list_letters,
    read_letter,
    replay_letters,
)
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import NotFound
from api.json_answer import conditional_answer, json_answer
from api.parameters import LIMIT, Parameter, Query, openapi_parameters
from api.patient_response import PatientResponse, primed
from api.principal import principal_of, reach_of

router = APIRouter(tags=["Dead letters"])
PATH = "/api/v1/dead-letters"

_KIND = "dead-letters"
_LIST = (*PARAMETERS, CURSOR, LIMIT)
_GROUPS = (*PARAMETERS, LIMIT)
_EXPORT_LIMIT = Parameter(
    "limit", "At most this many, the oldest. Default: all.", 1000, (("type", "integer"), ("minimum", 1))
)
_EXPORT = (*PARAMETERS, _EXPORT_LIMIT)
_MOST_EXPORTED = 10**12 - 1
_MOST_GROUPS = 500


@router.get(
    PATH,
    summary="List dead letters",
    response_model=schemas.LettersAnswer,
    responses=errors(400, 429, 503) | NOT_MODIFIED,
    openapi_extra=openapi_parameters(_LIST),
    dependencies=[READ_PART],
)
async def get_dead_letters(request: Request, services: ServicesDependency) -> Response:
    """Newest first, without their bytes. A key with event types sees letters whose type is known and its own."""
    query = Query(request.scope["query_string"], _LIST)
    which = read_filter(query, reach_of(request))
    settings = services.settings.analytics.query
    limit = query.number(LIMIT, default=settings.default_limit, low=1, high=settings.max_results)
    # Not the range, which may move on between pages that are polled, nor what the key sees.
    question = replace(which, since=None, until=None, reach=EVERYTHING)
    [before] = read_cursor(query, CURSOR, _KIND, int, question=question) or [None]
    found = await list_letters(services.desk, which, limit=limit, before=before)  # type: ignore[arg-type]
    letters = found[:limit]
    content = {"dead_letters": [schemas.plain(one) for one in letters], "count": len(letters)}
    if len(found) > limit:
        content["next_cursor"] = write_cursor(_KIND, letters[-1].id, question=question)
    return conditional_answer(request, content)


@router.get(
    PATH + "/groups",
    summary="Count dead letters by reason, place and shape",
    response_model=schemas.GroupsAnswer,
    responses=errors(400, 429, 503) | NOT_MODIFIED,
    openapi_extra=openapi_parameters(_GROUPS),
    dependencies=[READ_PART],
)
async def get_groups(request: Request, services: ServicesDependency) -> Response:
    """The largest first: ten thousand messages of one broken producer are one group, with the newest as a sample."""
    query = Query(request.scope["query_string"], _GROUPS)
    which = read_filter(query, reach_of(request))
    limit = query.number(LIMIT, default=100, low=1, high=_MOST_GROUPS)
    found = await list_groups(services.desk, which, limit=limit)
    return conditional_answer(request, {"groups": [schemas.plain(one) for one in found], "count": len(found)})


@router.get(
    PATH + "/export",
    summary="Export dead letters with their bytes",
    response_class=Response,
    responses=errors(400, 429, 503) | schemas.EXPORT_ANSWER,
    openapi_extra=openapi_parameters(_EXPORT),
    dependencies=[READ_PART],
)
async def get_export(request: Request, services: ServicesDependency) -> Response:
    """A stream of any length. Headers hold credentials: `headers_base64` is null without the scope `admin`."""
    query = Query(request.scope["query_string"], _EXPORT)
    which = read_filter(query, reach_of(request))
    limit = query.number(_EXPORT_LIMIT, default=_MOST_EXPORTED, low=1, high=_MOST_EXPORTED)
    lines = export_lines(services.desk, which, limit=limit, has_headers=_has_headers(request))
    return PatientResponse(
        await primed(lines),
        media_type="application/x-ndjson",
        patience=services.settings.server.write_timeout.total_seconds(),
    )


@router.get(
    PATH + "/{letter_id}",
    summary="A dead letter with its message",
    response_model=schemas.WholeLetterAnswer,
    responses=errors(400, 404, 429, 503),
    openapi_extra=openapi_parameters([schemas.MAX_BYTES]),
    dependencies=[READ_PART],
)
async def get_dead_letter(
    letter_id: Annotated[str, Path(description="Its `id`, a whole number.", examples=["4711"])],
    request: Request,
    services: ServicesDependency,
) -> Response:
    """Bytes in base64, and as text where they are UTF-8. Values of headers are for keys with the scope `admin`."""
    query = Query(request.scope["query_string"], [schemas.MAX_BYTES])
    most = query.number(schemas.MAX_BYTES, default=65_536, low=0, high=schemas.MOST_SHOWN)
    which = Filter(reach=seen(reach_of(request)))
    number = id_of(letter_id)
    found = None if number is None else await read_letter(services.desk, number, which)
    if found is None:
        raise NotFound("There is no dead letter of this id that may be seen.", title="Dead letter not found")
    return json_answer(schemas.letter_content(*found, most, has_headers=_has_headers(request)))


@router.post(
    PATH + "/replay",
    summary="Land dead letters again",
    response_model=schemas.ReplayAnswer,
    responses=errors(400, 403, 413, 415, 429, 503),
    openapi_extra=schemas.object_body(schemas.REPLAY_FIELDS, schemas.REPLAY_EXAMPLE),
    dependencies=[ADMIN],
)
async def post_replay(request: Request, services: ServicesDependency) -> Response:
    """Open letters are judged by the present definitions and limits; safe to repeat: what is settled stays so.

    What is still bad stays open, with its new reason. A request tries at most 10,000 letters, or as many as 10 s
    allow; `next_after` leads to the rest.
    """
    content = read_object(await request.body(), schemas.REPLAY_FIELDS)
    which, is_dry_run = chosen(content), flag(content, "dry_run")
    limit = whole(content, "limit", default=schemas.MOST_TRIED, low=1, high=schemas.MOST_TRIED)
    after = whole(content, "after", default=0, low=0, high=2**63 - 1)
    request.scope[SUBJECT] = _subject("replay", which, is_dry_run=is_dry_run)
    done, has_more = await replay_letters(
        services.desk,
        services.settings,
        which,
        is_dry_run=is_dry_run,
        limit=limit,
        after=after,
        seconds=schemas.LONGEST,
    )
    return json_answer(schemas.replay_content(done, is_dry_run=is_dry_run, has_more=has_more))


@router.post(
    PATH + "/discard",
    summary="Give dead letters up",
    response_model=schemas.DiscardAnswer,
    responses=errors(400, 403, 413, 415, 429, 503),
    openapi_extra=schemas.object_body(schemas.DISCARD_FIELDS, schemas.DISCARD_EXAMPLE, "note"),
    dependencies=[ADMIN],
)
async def post_discard(request: Request, services: ServicesDependency) -> Response:
    """Open letters will never be replayed; they and their bytes stay. Safe to repeat."""
    content = read_object(await request.body(), schemas.DISCARD_FIELDS)
    which, is_dry_run = chosen(content), flag(content, "dry_run")
    note = text_of(content, "note", most=schemas.MOST_NOTE)
    limit = whole(content, "limit", default=schemas.MOST_DISCARDED, low=1, high=schemas.MOST_DISCARDED)
    request.scope[SUBJECT] = _subject("discard", which, is_dry_run=is_dry_run)
    if is_dry_run:
        count = await count_open(services.desk, which)
        has_more = count > limit
    else:
        count = await discard_letters(services.desk, which, note=note, limit=limit)
        has_more = count == limit
    return json_answer({"dry_run": is_dry_run, "discarded": count, "has_more": has_more})


def _subject(what: str, which: Filter, *, is_dry_run: bool) -> str:
    """For the audit log: what is done to which letters, by kinds of filter and the names that are ours."""
    filters = [f"{len(which.ids)} ids"] if which.ids else []
    filters += [f"reason {reason}" for reason in which.reasons]
    for name, values in (
        ("types", which.event_types),
        ("sources", which.sources),
        ("producers", which.producers),
        ("groups", which.groups),
    ):
        filters += [f"{len(values)} {name}"] if values else []
    filters += ["a range of time"] if which.since or which.until else []
    return f"{'dry run of ' if is_dry_run else ''}{what}: {', '.join(filters) or 'all'}"


def _has_headers(request: Request) -> bool:
    return "admin" in principal_of(request).scopes
