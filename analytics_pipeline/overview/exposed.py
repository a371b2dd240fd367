"""The API's numbers, from the page that Prometheus reads.

Belongs here: asking it and what changed between two readings. Does not belong here: the series (`telemetry`).
"""

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.overview.moment import Api
from analytics_pipeline.settings import Metrics

_TIME = 2.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  (where it listens)


@dataclass(frozen=True)
class Counts:
    """Since the processes began."""

    at: float
    requests: float = 0.0
    errors: float = 0.0
    hits: float = 0.0
    misses: float = 0.0
    streams: int = 0


class Exposed:
    """Reads the page again and again."""

    def __init__(self, settings: Metrics) -> None:
        self._settings = settings
        self._before: Counts | None = None

    def read(self) -> Api | None:
        """What happened since the reading before; None at the first, and where `metrics.enabled` is false.

        Raises:
            EnvironmentFault: nobody answers there.
        """
        if not self._settings.enabled:
            return None
        counts = count(text_string_to_metric_families(self._page()), time.monotonic())
        before, self._before = self._before, counts
        return None if before is None else between(before, counts)

    def _page(self) -> str:
        host = _ANY.get(self._settings.host, self._settings.host)
        try:
            with closing(HTTPConnection(host, self._settings.port, timeout=_TIME)) as line:
                line.request("GET", self._settings.path)
                return line.getresponse().read().decode("utf-8", "replace")
        except (OSError, HTTPException) as error:
            self._before = None
            raise EnvironmentFault(
                f"no metrics at {host}:{self._settings.port} ({type(error).__name__}): is the API running here?"
            ) from error


def count(families: Iterable[Metric], at: float) -> Counts:
    """What concerns the API; `at` in monotonic seconds."""
    sums = dict.fromkeys(("requests", "errors", "hits", "misses", "streams"), 0.0)
    for family in families:
        for sample in family.samples:
            match sample.name:
                case "analytics_http_requests_total":
                    sums["requests"] += sample.value
                    sums["errors"] += sample.value if sample.labels.get("status", "").startswith("5") else 0
                case "analytics_cache_hits_total":
                    sums["hits"] += sample.value
                case "analytics_cache_misses_total":
                    sums["misses"] += sample.value
                case "analytics_api_open_streams":
                    sums["streams"] += sample.value
    return Counts(at, sums["requests"], sums["errors"], sums["hits"], sums["misses"], int(sums["streams"]))


def between(before: Counts, after: Counts) -> Api:
    """Rates; a counter that began anew counts from nothing."""
    seconds = max(after.at - before.at, 1e-9)

    def rate(earlier: float, later: float) -> float:
        return (later - earlier if later >= earlier else later) / seconds

    return Api(
        rate(before.requests, after.requests),
        rate(before.errors, after.errors),
        rate(before.hits, after.hits),
        rate(before.misses, after.misses),
        after.streams,
    )
