"""What Schemathesis, which loads this, does not know: NDJSON, streams, its key, what is there, that nothing lands."""

import itertools
import json
from typing import Any

import schemathesis

from analytics_pipeline.settings import environment

OWN_KEY = "TEST_OWN_KEY_ID"
KNOWN = "TEST_KNOWN_THINGS"
"""JSON: by path, the parameters of something that is there."""

_turns = itertools.count()


@schemathesis.serializer("application/x-ndjson")
def write_ndjson(_context: Any, value: Any) -> bytes:
    """Text as it is: what is no JSON is a case, too."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def before_call(_context: Any, case: Any, kwargs: Any) -> None:
    """Whoever revokes the key of all requests learns nothing more, and whoever waits for a landing learns little."""
    wait = (case.query or {}).get("wait")
    if str(wait).isdigit() and int(wait) > 1:
        case.query["wait"] = 1
    if "/api/v1/stream/" in case.path:
        kwargs |= {"stream": True, "hooks": {"response": read_the_beginning}}
    if (case.path_parameters or {}).get("key_id") == environment()[OWN_KEY]:
        case.path_parameters["key_id"] = "000000000000"
    known = json.loads(environment()[KNOWN]).get(case.path)
    if known and next(_turns) % 4 == 0:  # nobody guesses what there is
        case.path_parameters |= known


def read_the_beginning(response: Any, *_: Any, **__: Any) -> None:
    """Read a stream until it has told something, and leave it; what else is read whole.

    A tail of events may have nothing to tell: its first line is enough.

    Raises:
        AssertionError: it tells what it should not.
    """
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        _ = response.content
        return
    wanted = 1 if "/stream/events" in response.url else 2
    read = b""
    for piece in response.iter_content(1):
        read += piece
        if read.count(b"\n\n") == wanted:
            break
    response.close()
    response._content, response._content_consumed = read, True
    for message in read.split(b"\n\n"):
        check_message(dict(line.split(b": ", 1) for line in message.split(b"\n") if b": " in line))


def check_message(fields: dict[bytes, bytes]) -> None:
    """See that a message is one of those documented."""
    kind, data = fields.get(b"event"), fields.get(b"data")
    assert (kind is None) == (data is None), fields
    if kind is None or data is None:
        return
    content = json.loads(data)
    match kind:
        case b"dashboard":
            assert "active_users" in content
        case b"snapshot":
            assert content.keys() & {"result", "results"}
        case b"events":
            assert content.keys() == {"events", "has_gap"}
        case b"problem":
            assert content["status"] in {400, 429, 503}, content
        case _:
            raise AssertionError(f"a message of another kind: {kind!r}")
    assert kind == b"problem" or fields.get(b"id"), fields
