"""JSON answers of routes."""

import orjson
from fastapi import Response


def json_answer(content: object) -> Response:
    """Answer 200 with content that orjson writes; times in UTC end in `Z`."""
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), media_type="application/json")
