"""`/docs`: the OpenAPI document as one plain page to read, without a script, so that it works offline.

Belongs here: turning the document into HTML. Does not belong here: descriptions; they stand beside the routes.
"""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.access import PUBLIC

router = APIRouter(include_in_schema=False)

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{margin-bottom:0}h2{margin-top:2.5rem;border-bottom:1px solid #d0d7de}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{background:#f6f8fa;padding:.75rem;overflow:auto;border-radius:6px}table{border-collapse:collapse;width:100%}
td,th{border:1px solid #d0d7de;padding:.35rem .6rem;text-align:left;vertical-align:top}summary{cursor:pointer}
.method{display:inline-block;min-width:3.2rem;text-align:center;border-radius:4px;color:#fff;font-weight:600}
.get{background:#0969da}.post{background:#1a7f37}.patch{background:#9a6700}.delete{background:#cf222e}
details{margin:.6rem 0}a{color:#0969da}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}pre{background:#161b22}td,th,h2{border-color:#30363d}
a{color:#6cb2ff}}
"""
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
_CODE = re.compile(r"`([^`]+)`")
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
"""This style and nothing else: no script, no form, no frame."""


@router.get("/docs", dependencies=[PUBLIC])
async def get_docs(request: Request) -> HTMLResponse:
    """The page."""
    page = render(request.app.openapi(), str(request.base_url).rstrip("/"))
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})


def render(document: dict[str, Any], base_url: str) -> str:
    """The whole page."""
    info = document["info"]
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            group = (operation.get("tags") or ["Other"])[0]
            groups.setdefault(group, []).append(_operation(document, base_url, path, method, operation))
    parts = "".join(f"<h2>{escape(group)}</h2>{''.join(found)}" for group, found in groups.items())
    description = _paragraphs(info.get("description", ""))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])}</h1><p>Version {escape(info['version'])}, as "
        f'<a href="/openapi.json">OpenAPI document</a>.</p>{description}{parts}</body></html>'
    )


def _text(text: str) -> str:
    """A description, whose backticks mean code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(part)}</p>" for part in text.split("\n\n"))


def _operation(
    document: dict[str, Any], base_url: str, path: str, method: str, operation: dict[str, Any]
) -> str:
    parts = [
        _paragraphs(operation.get("description", "")),
        f"<pre>{escape(_curl(base_url, path, method, operation))}</pre>",
    ]
    if operation.get("parameters"):
        rows = "".join(_parameter(parameter) for parameter in operation["parameters"])
        parts.append(f"<table><tr><th>Parameter</th><th>Meaning</th><th>Example</th></tr>{rows}</table>")
    rows = "".join(
        f"<tr><td>{escape(status)}</td><td>{_text(response.get('description', ''))}</td></tr>"
        for status, response in operation["responses"].items()
    )
    parts.append(f"<table><tr><th>Status</th><th>Meaning</th></tr>{rows}</table>")
    schema = _success_schema(operation)
    if schema is not None:
        example = json.dumps(_example(document, schema), indent=2, ensure_ascii=False)
        parts.append(f"<p>Answer:</p><pre>{escape(example)}</pre>")
    return (
        f'<details><summary><span class="method {method}">{method.upper()}</span> <code>{escape(path)}</code> '
        f"{escape(operation.get('summary', ''))}</summary>{''.join(parts)}</details>"
    )


def _parameter(parameter: dict[str, Any]) -> str:
    name = escape(parameter["name"]) + (" (required)" if parameter.get("required") else "")
    meaning = _text(parameter.get("description", ""))
    choices = parameter.get("schema", {}).get("enum")
    if choices:
        meaning += "<br>" + escape(", ".join(map(str, choices)))
    example = escape(str(parameter.get("example", "")))
    return f"<tr><td><code>{name}</code></td><td>{meaning}</td><td>{example}</td></tr>"


def _curl(base_url: str, path: str, method: str, operation: dict[str, Any]) -> str:
    wanted = [
        one
        for one in operation.get("parameters", [])
        if one["in"] == "query" and one.get("example") is not None
    ]
    query = "&".join(f"{one['name']}={one['example']}" for one in wanted if one.get("required"))
    url = f"{base_url}{path}" + (f"?{query}" if query else "")
    security = operation.get("security")
    key = " -H 'X-API-Key: …'" if security and {} not in security else ""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    if body is None:
        verb = "" if method == "get" else f"-X {method.upper()} "
        return f"curl {verb}'{url}'{key}"
    content = f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    return f"curl -X {method.upper()} '{url}'{key} {content}"


def _success_schema(operation: dict[str, Any]) -> dict[str, Any] | None:
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            schema = response.get("content", {}).get("application/json", {}).get("schema")
            return schema if isinstance(schema, dict) else None
    return None


def _example(document: dict[str, Any], schema: dict[str, Any], depth: int = 0) -> Any:
    """A made-up value of a schema: its examples where it has some."""
    if depth > 8:
        return None
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if schema.get("examples"):
        return schema["examples"][0]
    if "anyOf" in schema:
        return _example(document, schema["anyOf"][0], depth + 1)
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        return {name: _example(document, part, depth + 1) for name, part in schema["properties"].items()}
    if kind == "array":
        return [_example(document, schema.get("items", {}), depth + 1)]
    if schema.get("format") == "date-time":
        return "2026-01-31T12:00:00Z"
    if schema.get("format") == "uuid":
        return "0198c7a0-1b2c-7d3e-8f40-112233445566"
    return {"string": "", "integer": 0, "number": 0.0, "boolean": True, "object": {}}.get(str(kind))
