"""Messages that landing has not read, and whether it ever will: what the settings and Kafka say of them.

Belongs here: telling a wrong topic, partition or offset from one that is still to be read. Does not belong here: what
became of those that were read (`storage.fates`).
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest.consumer import Bounds, Partition
from analytics_pipeline.ingest.topics import bounds
from analytics_pipeline.settings import Kafka
from analytics_pipeline.storage.fates import NO_TOPIC, Fate, Verdict, is_unread

_PATIENCE = 2.0

Ask = Callable[[Iterable[Partition]], Mapping[Partition, Bounds]]


class Unread:
    """Says more of messages that were not read.

    Args:
        kafka: which topics are read, and where to ask; once it does not answer it is not asked again.
        ask: which offsets partitions hold; those that Kafka doesn't have are left out. Raises EnvironmentFault.
    """

    def __init__(self, kafka: Kafka, ask: Ask | None = None) -> None:
        self._topics = kafka.topics
        self._ask = ask or (lambda wanted: bounds(kafka, wanted, timeout=_PATIENCE))
        self._answers = kafka.enabled

    def judge(self, answers: Sequence[Sequence[Fate]]) -> list[list[Fate]]:
        """The same fates, those of unread messages with what else is known; Kafka is asked at most once."""
        held = self._held({
            (one.source, one.partition) for fates in answers for one in fates
            if is_unread(one) and one.source is not None and one.partition is not None
        })  # fmt: skip
        return [[self._judged(one, held) if is_unread(one) else one for one in fates] for fates in answers]

    def _held(self, partitions: set[Partition]) -> Mapping[Partition, Bounds] | None:
        wanted = sorted(one for one in partitions if one[0] in self._topics)
        if not wanted or not self._answers:
            return None
        try:
            return self._ask(wanted)
        except EnvironmentFault:
            self._answers = False
            return None

    def _judged(self, fate: Fate, held: Mapping[Partition, Bounds] | None) -> Fate:
        assert fate.source is not None
        assert fate.partition is not None
        assert fate.offset is not None
        if fate.source not in self._topics:
            if fate.detail != NO_TOPIC:
                return fate
            near = difflib.get_close_matches(fate.source, self._topics, n=1)
            hint = f"did you mean {near[0]}?" if near else f"those are {', '.join(self._topics)}"
            return fate._replace(detail=f"no topic of this name is read (kafka.topics); {hint}")
        if held is None:
            return fate
        known = held.get((fate.source, fate.partition))
        if known is None:
            return fate._replace(verdict=Verdict.UNKNOWN, detail="Kafka has no such partition")
        if fate.offset >= known.high:
            words = f"the partition ends at offset {known.high} and holds no such message"
            return fate._replace(verdict=Verdict.UNKNOWN, detail=words)
        return fate
