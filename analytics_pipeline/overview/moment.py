"""What was seen at one moment."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from analytics_pipeline.storage.dead_letters import Letter
from analytics_pipeline.storage.overview import RollupState, SourceRate, TypeRate
from analytics_pipeline.storage.problems import Problem


@dataclass(frozen=True)
class Api:
    """The API processes of this machine, since the reading before; None where there was none.

    Attributes:
        requests: a second.
        errors: answers 5xx a second.
        hits: reads a second that the cache answered.
        misses: reads a second that asked Postgres.
        streams: that are open.
    """

    requests: float
    errors: float
    hits: float
    misses: float
    streams: int

    @property
    def hit_ratio(self) -> float | None:
        """Of the reads that the cache could answer; None if there were none."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else None


@dataclass(frozen=True)
class Process:
    """A process of the stack here, with its children: percent of one core, bytes of memory."""

    name: str
    cpu: float
    memory: int


@dataclass(frozen=True)
class Moment:
    """Everything; a part that could not be read is empty, and `problems` says why.

    Attributes:
        at: when.
        sources: rates over the last seconds.
        lag: messages that wait, by topic and partition; None where it is not known.
        types: the most frequent now.
        rollups: how far merges are.
        letters: the newest dead letters.
        api: of the API, from its Prometheus page.
        processes: of the stack here.
        problems: a sentence by part that could not be read (`postgres`, `kafka`, `metrics`).
        pipeline_problems: those of GET `/api/v1/pipeline`, errors first.
    """

    at: datetime
    sources: list[SourceRate] = field(default_factory=list)
    lag: dict[str, dict[int, int | None]] = field(default_factory=dict)
    types: list[TypeRate] = field(default_factory=list)
    rollups: RollupState | None = None
    letters: list[Letter] = field(default_factory=list)
    api: Api | None = None
    processes: list[Process] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    pipeline_problems: list[Problem] = field(default_factory=list)

    @property
    def read(self) -> float:
        """Messages a second, of all sources."""
        return sum(one.read for one in self.sources)

    @property
    def waiting(self) -> int | None:
        """Messages in Kafka that have not landed; None if one partition's number is not known."""
        known = [count for partitions in self.lag.values() for count in partitions.values()]
        return None if not known or None in known else sum(count or 0 for count in known)

    @property
    def behind(self) -> float | None:
        """Seconds since everything had landed; None if nobody knows."""
        ages = [one.behind for one in self.sources if one.behind is not None]
        return max(ages, default=None)

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "at": self.at,
            "sources": [one._asdict() for one in self.sources],
            "lag": self.lag,
            "types": [one._asdict() for one in self.types],
            "rollups": None if self.rollups is None else self.rollups._asdict(),
            "dead_letters": [asdict(one) for one in self.letters],
            "api": None if self.api is None else {**asdict(self.api), "hit_ratio": self.api.hit_ratio},
            "processes": [asdict(one) for one in self.processes],
            "problems": self.problems,
            "pipeline_problems": [one._asdict() for one in self.pipeline_problems],
        }
