"""The two small servers beside the API: Prometheus on `metrics.port`, health on `health.port`.

Belongs here: threads of the parent process that answer even while a worker restarts.
Does not belong here: what health means (`health`); the second port passes on what the API itself answers.
"""

import http.client
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

import orjson
from prometheus_client import CollectorRegistry, make_wsgi_app

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.settings import Settings
from analytics_pipeline.telemetry import LiveCollector
from api.clock import utc_now
from api.health import PATHS
from api.times import format_time

Wsgi = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

_PATIENCE = 5.0
_JSON = ("Content-Type", "application/json")


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        """Silence: scrapes and probes come every few seconds."""


def serve_beside(host: str, port: int, setting: str, app: Wsgi) -> _Server:
    """Serve a WSGI application in a thread until the process ends.

    Raises:
        EnvironmentFault: the port is taken; the text names the setting.
    """
    try:
        server = _Server((host, port), _Handler)
    except OSError as error:
        raise EnvironmentFault(
            f"port {port} cannot be used ({error.strerror}): change {setting} (0: any free one)"
        ) from error
    server.set_app(app)
    threading.Thread(target=server.serve_forever, name=setting, daemon=True).start()
    return server


def metrics_app(folder: Path, path: str) -> Wsgi:
    """The series of all processes that share the folder, at `path`."""
    registry = CollectorRegistry()
    LiveCollector(registry, folder)
    series = make_wsgi_app(registry)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "") not in {path, "/"}:
            return _not_found(start_response)
        found: Iterable[bytes] = series(environ, start_response)
        return found

    return app


def health_app(settings: Settings) -> Wsgi:
    """What the API answers on the same paths; `unhealthy` when it does not answer."""
    server = settings.server
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - compared, not bound
    paths = {*PATHS, settings.health.path}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path not in paths:
            return _not_found(start_response)
        status, body = _ask(host, server.port, path if path in PATHS else PATHS[0])
        start_response(
            f"{status} {http.client.responses.get(status, 'Unknown')}",
            [_JSON, ("Content-Length", str(len(body))), ("Cache-Control", "no-store")],
        )
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

    return app


def _ask(host: str, port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        content = {
            "status": "unhealthy",
            "database": "disconnected",
            "cache": "disconnected",
            "service": "analytics",
            "timestamp": format_time(utc_now()),
            "detail": "The API does not answer.",
        }
        return 503, orjson.dumps(content)
    finally:
        connection.close()


def _not_found(start_response: StartResponse) -> Iterable[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "10")])
    return [b"Not found\n"]
