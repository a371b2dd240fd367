"""What live streams tell: one channel per stream of the service, and its messages.

Belongs here: requests and messages of `/api/v1/stream/…`. Does not belong here: connecting again (`streams`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

from b25_client.dashboard import Dashboard, dashboard_of
from b25_client.metrics import Metrics, Point, metrics_of, metrics_parameters, points_of
from b25_client.request import Request, write_parameters
from b25_client.stored_events import EventsFilter, StoredEvent, event_of

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class EventsMessage:
    """Events as they land, oldest first.

    Attributes:
        has_gap: others before these were left out: there were too many, or too much time has passed.
        id: where to go on later: `last_event_id` of `stream_events`.
    """

    events: tuple[StoredEvent, ...]
    has_gap: bool
    id: str


@dataclass(frozen=True, slots=True)
class MetricsMessage:
    """Points that are new or have changed; a point is known by its `timestamp` and `dimensions`.

    Attributes:
        metrics: the whole answer, at the beginning and after each interruption: forget what was told before. Empty
            where only changes are told.
    """

    points: tuple[Point, ...]
    metrics: tuple[Metrics, ...] = ()


class Channel(NamedTuple, Generic[M]):
    """One of the service's streams: its request, and how its messages are read by their kind."""

    request: Request[None]
    kinds: Mapping[str, Callable[[Mapping[str, Any], str], M]]
    has_memory: bool
    """Whether it goes on behind the last message."""


def dashboard_channel() -> Channel[Dashboard]:
    """The dashboard."""
    return Channel(_request("dashboard", []), {"dashboard": lambda content, _: dashboard_of(content)}, False)


def metrics_channel(metric_names: Sequence[str], asked: Mapping[str, Any]) -> Channel[MetricsMessage]:
    """Metrics: the whole answer, then changes."""
    return Channel(
        _request("metrics", metrics_parameters(metric_names, asked)),
        {
            "snapshot": lambda content, _: _snapshot(metrics_of(content)),
            "points": lambda content, _: MetricsMessage(points_of(content["data_points"])),
        },
        False,
    )


def events_channel(asked: Mapping[str, Any]) -> Channel[EventsMessage]:
    """Events as they land."""
    parameters = write_parameters(asked, EventsFilter, joined=frozenset({"fields"}))
    return Channel(
        _request("events", parameters),
        {
            "events": lambda content, at: EventsMessage(
                tuple(event_of(item) for item in content["events"]), content["has_gap"] is True, at
            )
        },
        True,
    )


def _snapshot(metrics: tuple[Metrics, ...]) -> MetricsMessage:
    points = (
        point if len(metrics) == 1 else replace(point, metric_name=one.metric_name)
        for one in metrics
        for point in one.points
    )
    return MetricsMessage(tuple(points), metrics)


def _request(name: str, parameters: list[tuple[str, str]]) -> Request[None]:
    return Request(f"/api/v1/stream/{name}", lambda _: None, parameters)
