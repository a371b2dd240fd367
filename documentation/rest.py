"""The page `docs/rest.md`: every route, from the OpenAPI document.

Belongs here: a reading of the document. Does not belong here: what it says (the routes, `api.documentation`).
"""

from collections.abc import Iterator
from typing import Any

from analytics_pipeline.settings import Settings
from api.app import create_app
from api.documentation import document
from documentation.markdown import code, table

_HEAD = """\
# REST reference

Made by `make docs` from the OpenAPI document. The running service has the same as a page to read, with a
line of curl for every route, <http://localhost:9097/docs>, and for programs, <http://localhost:9097/openapi.json>, with
schemas and an example of every answer.

Times are RFC 3339 with a zone, ranges half-open. Errors are listed in [problems](problems.md), scopes in
[security](security.md).
Every answer has `X-Request-ID`, `X-RateLimit-Limit`, `X-RateLimit-Remaining`, `X-RateLimit-Reset` and
`Server-Timing`.
"""


def page() -> str:
    """The whole page."""
    app: Any = create_app(Settings()).app  # type: ignore[attr-defined]
    found = document(app, needs_key=False)
    lines = [_HEAD]
    for tag in found["tags"]:
        lines += [f"## {tag['name']}", "", tag["description"], ""]
        for path, methods in found["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    lines += [*_operation(method.upper(), path, operation), ""]
    return "\n".join(lines).rstrip() + "\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {method} {path}"
    yield ""
    yield f"**{operation['summary']}.** {operation['description']}"
    parameters = operation.get("parameters", [])
    if parameters:
        yield ""
        yield from table(("parameter", "in", "meaning"), map(_parameter, parameters))
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        yield ""
        yield "Body: " + ", ".join(map(code, body)) + "."
    yield ""
    yield (
        "Answers: "
        + ", ".join(
            f"{status} ({', '.join(map(code, one['content']))})"
            if status < "300" and one.get("content")
            else status
            for status, one in operation["responses"].items()
        )
        + "."
    )


def _parameter(one: dict[str, Any]) -> tuple[str, ...]:
    name = code(one["name"]) + (" (required)" if one.get("required") and one["in"] != "path" else "")
    return name, one["in"], one["description"]
