"""True answers to reads, for the OpenAPI document.

Belongs here: answers as they could be, written once (`examples.json`). Does not belong here: examples made from shapes,
for answers that are small (`answers`).
"""

from importlib.resources import files
from typing import Any

import orjson

EXAMPLES: dict[str, Any] = orjson.loads(files("api").joinpath("examples.json").read_bytes())
"""By path, of GET and status 200."""


def _message(event: str, content: object) -> str:
    return f"retry: 2000\n\nevent: {event}\ndata: {orjson.dumps(content).decode()}\n\n"


STREAMS = {
    "/api/v1/stream/dashboard": _message("dashboard", EXAMPLES["/api/v1/dashboard/metrics"]),
    "/api/v1/stream/metrics": _message("snapshot", EXAMPLES["/api/v1/metrics"]),
    "/api/v1/stream/events": _message(
        "events", {"events": EXAMPLES["/api/v1/events"]["events"], "has_gap": False}
    ),
}
"""The beginning of each stream, by path."""
