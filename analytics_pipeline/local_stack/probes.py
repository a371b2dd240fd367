"""When a process of the product is ready: asked over its own interface, as a user would.

Belongs here: cheap yes-or-no questions. Does not belong here: numbers (`pulse`).
"""

import http.client
import json
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import psycopg

_TIMEOUT = 3.0

_LANDING = """
SELECT
    (SELECT count(*) FROM ingest_offsets WHERE source = ANY(%s) AND epoch >= 1 AND NOT is_retired)
    >= %s
    AND EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'analytics-landing%%'
        AND datname = current_database())
"""
_DAGSTER = """
{
  workspaceOrError { __typename ... on Workspace { locationEntries { locationOrLoadError { __typename } } } }
  instance { daemonHealth { allDaemonStatuses { required healthy lastHeartbeatTime } } }
}
"""


def answers(host: str, port: int) -> Callable[[], bool]:
    """Something listens there."""

    def probe() -> bool:
        with suppress(OSError), socket.create_connection((host, port), timeout=_TIMEOUT):
            return True
        return False

    return probe


def http_ok(host: str, port: int, path: str) -> Callable[[], bool]:
    """A GET is answered with 200."""

    def probe() -> bool:
        with suppress(OSError, http.client.HTTPException), closing(_connection(host, port)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        return False

    return probe


def landing(conninfo: str, topics: list[str], partitions: int) -> Callable[[], bool]:
    """An ingest process is connected, and owns or has owned all `partitions` of `topics`."""

    def probe() -> bool:
        with suppress(psycopg.Error), psycopg.connect(conninfo, connect_timeout=3) as connection:
            row = connection.execute(_LANDING, (topics, partitions)).fetchone()
            return bool(row and row[0])
        return False

    return probe


def dagster_location(host: str, port: int) -> Callable[[], bool]:
    """The webserver has loaded the definitions from the code server."""

    def probe() -> bool:
        entries: list[dict[str, Any]] = (
            _ask_dagster(host, port).get("workspaceOrError", {}).get("locationEntries", [])
        )
        kinds = [(entry["locationOrLoadError"] or {}).get("__typename") for entry in entries]
        return bool(kinds) and all(kind == "RepositoryLocation" for kind in kinds)

    return probe


def dagster_daemons(host: str, port: int, since: Callable[[], float]) -> Callable[[], bool]:
    """Every daemon Dagster needs is healthy, and gave a sign of life after `since()` (seconds since 1970)."""

    def probe() -> bool:
        daemons: dict[str, Any] = _ask_dagster(host, port).get("instance", {}).get("daemonHealth", {})
        required = [status for status in daemons.get("allDaemonStatuses", []) if status["required"]]
        return bool(required) and all(
            status["healthy"] and (status["lastHeartbeatTime"] or 0) >= since() for status in required
        )

    return probe


def _ask_dagster(host: str, port: int) -> dict[str, Any]:
    with (
        suppress(OSError, http.client.HTTPException, ValueError),
        closing(_connection(host, port)) as connection,
    ):
        body = json.dumps({"query": _DAGSTER})
        connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
        data: dict[str, Any] = json.loads(connection.getresponse().read())["data"] or {}
        return data
    return {}


def _connection(host: str, port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
