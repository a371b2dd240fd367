"""The peer: an ASGI application that answers a body of a length, and does nothing else."""

from typing import Any

from analytics_pipeline.settings import environment

LENGTH = "BENCH_BODY_LENGTH"
_BODY = b'"' + b"x" * (int(environment().get(LENGTH, "1000")) - 2) + b'"'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Answer at once."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
