"""Where `analytics query` gets its answers: from the database by the API's own code, or from an API elsewhere.

Belongs here: the two ways, and their errors as ours. Does not belong here: options (`query`), looks (`query_display`).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import OK, HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from analytics_pipeline.cli.workers import database, joined
from analytics_pipeline.errors import AnalyticsError, ConfigurationError, EnvironmentFault
from analytics_pipeline.settings import Settings

if TYPE_CHECKING:
    from analytics_pipeline.rollups.catalog import Catalog
    from analytics_pipeline.storage.connection import Connection

METRICS, EVENTS = "/api/v1/metrics", "/api/v1/events"
FLAGS = {
    "metric_name": "NAME",
    "start_time": "--from",
    "end_time": "--to",
    "last": "--last",
    "interval": "--interval",
    "max_points": "--interval",
    "group_by": "--group-by",
    "dimension": "--filter",
    "aggregation": "--aggregation",
    "time_zone": "--zone",
    "top": "--top",
    "fill": "--fill",
    "compare": "--compare",
    "event_type": "--type",
    "user_id": "--user",
    "session_id": "--session",
    "id": "--id",
    "property": "--property",
    "order": "--order",
    "limit": "--limit",
    "cursor": "--cursor",
    "fields": "--fields",
    "total": "--total",
}
"""The option of each parameter of the API, for sentences about it."""
UNKNOWN_METRIC = "The catalog has no metric of this name."

_TIME = 60.0
_PIECE = 65_536
_LONGEST_PROBLEM = 1_000_000

Parameters = Sequence[tuple[str, object]]


class Asking:
    """Asks one question.

    Args:
        url: of an API; None for the database.
        key: for that API, if it asks for one.
    """

    def __init__(self, url: str | None, key: str | None) -> None:
        self._url, self._key = url, key

    def answer(self, path: str, parameters: Parameters) -> dict[str, Any]:
        """The JSON of an answer.

        Raises:
            AnalyticsError: there is none.
        """
        body = b"".join(self.pieces(path, parameters))
        try:
            found: dict[str, Any] = json.loads(body)
        except ValueError:
            raise EnvironmentFault(
                f"what answers at {self._url} is no B25 Analytics API: check --api"
            ) from None
        return found

    def pieces(self, path: str, parameters: Parameters) -> Iterator[bytes]:
        """The bytes of an answer as they come; raises as `answer`."""
        query_string = urlencode([(name, str(value)) for name, value in parameters if value is not None])
        if self._url is not None:
            yield from _over_http(self._url, self._key, path, query_string)
        else:
            yield from _from_database(path, parameters, query_string.encode())


def _from_database(path: str, parameters: Parameters, query_string: bytes) -> Iterator[bytes]:
    found = joined()
    from api.direct import Direct
    from api.errors import Problem

    with database(found, "query") as opened:
        # Events need no metric: they are listed also where somebody's declaration of one is wrong.
        catalog = _catalog(opened, found, parameters) if path == METRICS else None
    direct = Direct(found, datetime.now(UTC))
    try:
        with asyncio.Runner() as runner:
            if catalog is not None:
                yield runner.run(direct.metrics(query_string, catalog))
            elif not any(name == "format" for name, _ in parameters):
                yield runner.run(direct.events(query_string))
            else:
                pieces = direct.export(query_string)
                while (piece := runner.run(_next(pieces))) is not None:
                    yield piece
    except Problem as problem:
        raise error_of(problem.status, problem.content) from None


def _catalog(opened: "Connection", found: Settings, parameters: Parameters) -> "Catalog":
    """The metrics that there are; raises ConfigurationError where one that is asked for is not among them."""
    from analytics_pipeline.storage.backfill import ids_of
    from analytics_pipeline.storage.definitions import load_catalog

    catalog = load_catalog(opened, is_custom_enabled=found.custom_events.enabled)
    ids_of([str(value) for name, value in parameters if name == "metric_name"], catalog)
    return catalog


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


def _over_http(url: str, key: str | None, path: str, query_string: str) -> Iterator[bytes]:
    place = urlsplit(url if "://" in url else f"http://{url}")
    kind = {"http": HTTPConnection, "https": HTTPSConnection}.get(place.scheme)
    try:
        port = place.port
    except ValueError:
        kind, port = None, None
    if kind is None or not place.hostname:
        raise ConfigurationError("--api: write the address of an API, like http://localhost:9097")
    with closing(kind(place.hostname, port, timeout=_TIME)) as line:
        try:
            headers = {"X-API-Key": key} if key else {}
            line.request("GET", f"{place.path.rstrip('/')}{path}?{query_string}", headers=headers)
            answer = line.getresponse()
            if answer.status != OK:
                raise error_of(answer.status, _problem(answer.read(_LONGEST_PROBLEM)))
            while piece := answer.read(_PIECE):
                yield piece
        except (OSError, HTTPException, ValueError) as error:
            where = f"{place.hostname}:{port or place.scheme}"
            raise EnvironmentFault(
                f"the API at {where} does not answer ({type(error).__name__}): check --api"
            ) from None


def _problem(body: bytes) -> Mapping[str, object]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def error_of(status: int, problem: Mapping[str, object]) -> AnalyticsError:
    """A problem of the API as an error of a command, in the words of its options."""
    detail = str(problem.get("detail") or f"the API answered {status}")
    parameter = str(problem.get("parameter", ""))
    if parameter in FLAGS:
        detail = f"{FLAGS[parameter]}: {detail.removeprefix(f'{parameter}: ')}"
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return ConfigurationError(f"{detail} The key comes from ANALYTICS_API_KEY or --api-key-file.")
        case HTTPStatus.BAD_REQUEST | HTTPStatus.NOT_FOUND | HTTPStatus.CONFLICT:
            return ConfigurationError(detail)
        case _:
            return EnvironmentFault(detail)
