"""JSON answers of routes."""

import orjson
from fastapi import Request, Response

from api.entity_tags import entity_tag, matches
from api.reads import CACHE_CONTROL


def json_answer(content: object) -> Response:
    """Answer 200 with content that orjson writes; times in UTC end in `Z`."""
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), media_type="application/json")


def conditional_answer(request: Request, content: object) -> Response:
    """The same with an ETag of the content, and 304 for who has it: whoever polls is told little when little happens.

    Declared by `answers.NOT_MODIFIED` among a route's `responses`.
    """
    answer = json_answer(content)
    etag = entity_tag(bytes(answer.body))
    headers = {"ETag": etag.decode(), "Cache-Control": CACHE_CONTROL}
    if matches(request.headers.get("if-none-match", "").encode("latin-1"), etag):
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer
