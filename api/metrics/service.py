"""Which definition of a metric answers for which buckets.

Belongs here: a snapshot of `metric_service`, and cutting a range of buckets by it. Does not belong here: reading points
(`repository`), registering versions (`analytics_pipeline.storage.metric_versions`).
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from api.database import Connection
from api.times import ceil_time

if TYPE_CHECKING:
    from analytics_pipeline.rollups.catalog import Kind, Metric

CHANNEL = "metric_versions"
_BEGIN = datetime(1, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)
"""Later than everything."""
_SERVICE = """
SELECT
    metric_name, metric_id, kind, greatest(served_from, %(begin)s), least(served_until, %(end)s), available_from,
    coalesce(superseded_at, %(end)s), event_types
FROM metric_service ORDER BY metric_name, version
"""


class Served(NamedTuple):
    """One version, the range of bucket starts that it answers for, the range in which it is complete, and its types.

    Attributes:
        event_types: whose events it counts; all, if there are none.
    """

    metric_id: str
    kind: str
    first: datetime
    end: datetime
    complete_from: datetime
    complete_until: datetime
    event_types: tuple[str, ...] = ()

    @property
    def is_predecessor(self) -> bool:
        """Whether another version has taken the name."""
        return self.complete_until < END


def always(metric: "Metric") -> Served:
    """What a metric is that nobody has registered: the only one of its name."""
    return Served(metric.metric_id, metric.kind.value, _BEGIN, END, _BEGIN, END, tuple(metric.event_types))


def cut(served: Iterable[Served], first: datetime, end: datetime, seconds: int) -> list[Served]:
    """The parts of `[first, end)`, in whole buckets of so many seconds, oldest first; each bucket is in one of them."""
    found = []
    for one in served:
        begin = first if one.first <= first else ceil_time(one.first, seconds)
        until = end if one.end >= end else ceil_time(one.end, seconds)
        if begin < until:
            found.append(one._replace(first=begin, end=until))
    return sorted(found, key=lambda one: one.first)


class MetricService:
    """A snapshot of all versions, replaced as a whole when the database says that one changed."""

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[Served, ...]] = {}

    def of(self, metric: "Metric") -> tuple[Served, ...]:
        """The versions of a metric's name."""
        return self._by_name.get(metric.name) or (always(metric),)

    def in_force(self, metric: "Metric") -> Served | None:
        """The version that landings compute now, if it is this very definition."""
        known = self._by_name.get(metric.name, ())
        return next(
            (one for one in known if one.metric_id == metric.metric_id and not one.is_predecessor), None
        )

    async def reload(self, connection: Connection) -> None:
        """Read them again."""
        rows = await (await connection.execute(_SERVICE, {"begin": _BEGIN, "end": END})).fetchall()
        found: dict[str, list[Served]] = {}
        for name, *rest, event_types in rows:
            found.setdefault(name, []).append(Served(*rest)._replace(event_types=tuple(event_types)))
        self._by_name = {name: tuple(versions) for name, versions in found.items()}


def has_state(served: Served, kind: "Kind") -> bool:
    """Whether its states are of this kind: those of another cannot be read as such."""
    return served.kind == kind.value
