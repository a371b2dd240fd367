"""Which partitions this worker owns: claiming what Kafka assigns, stopping what cannot be read.

Belongs here: everything between an assignment and the first message, and the loud stop of a partition.
Does not belong here: landing (`worker`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.failpoints import FailPoint, fail_at
from analytics_pipeline.ingest import accounts
from analytics_pipeline.ingest.backoff import Backoff
from analytics_pipeline.ingest.consumer import Bounds, Consumer, Partition, Unanswered
from analytics_pipeline.ingest.landings import Landings
from analytics_pipeline.ingest.owned import Owned
from analytics_pipeline.ingest.stops import limit_passed, made_anew, unreadable
from analytics_pipeline.ingest.topic_ids import NoTopicIds, TopicIdSource
from analytics_pipeline.storage.standings import Stop

_log = structlog.get_logger(__name__)

_PATIENCE = 4.0
"""A question that Kafka doesn't answer is waited for, and nothing lands meanwhile: so much longer it does land."""
_LONGEST_ROUND = 4.0
"""Seconds of such questions until messages are fetched in between."""


class Ownership:
    """The partitions of one worker, as Kafka and `ingest_offsets` see them.

    Args:
        is_from_start: whether a topic seen for the first time is read from its beginning or from its end.
        make_limit: a dead-letter limit for one partition.
        topic_ids: tells a topic from another one of the same name.
        patience: seconds to wait before a partition that another process has claimed, but that Kafka leaves
            with us, is claimed again.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        landings: Landings,
        *,
        is_from_start: bool,
        make_limit: Callable[[], DeadLetterLimit],
        patience: float,
        topic_ids: TopicIdSource | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._landings = landings
        self._is_from_start = is_from_start
        self._make_limit = make_limit
        self._patience = patience
        self._topic_ids = topic_ids or NoTopicIds()
        self._clock = clock
        self._consumer: Consumer | None = None
        self._owned: dict[Partition, Owned] = {}
        self._unclaimed: dict[Partition, float] = {}
        self._backoff = Backoff()
        self._unanswered: dict[Partition, Backoff] = {}
        """Of the unclaimed: those that Kafka was asked about in vain, and that wait together."""
        self.failure: BaseException | None = None
        """What went wrong inside a callback: callbacks must not raise, so the loop does."""

    def __iter__(self) -> Iterator[Owned]:
        """The partitions that are read."""
        return iter([owned for owned in list(self._owned.values()) if owned.stopped is None])

    def get(self, key: Partition) -> Owned | None:
        """A partition that is read."""
        owned = self._owned.get(key)
        return owned if owned is not None and owned.stopped is None else None

    @property
    def all(self) -> list[Owned]:
        """The partitions that are claimed, stopped ones too."""
        return list(self._owned.values())

    @property
    def partitions(self) -> list[Partition]:
        """The keys of all."""
        return list(self._owned)

    def use(self, consumer: Consumer) -> None:
        """Nothing is owned any more: this is a new member of the group."""
        self.revoked(self.partitions)
        self._consumer = consumer

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Kafka's callback: claim, and answer where to start; what cannot be claimed now is tried again later."""
        try:
            self.revoked(self.partitions)
            self._unclaimed, self._unanswered = dict.fromkeys(partitions, self._clock()), {}
            self._claim_due()
            fail_at(FailPoint.IN_ON_ASSIGN)
        except BaseException as error:  # noqa: BLE001  (raised again by the loop)
            self.failure = error
            return {}
        _log.info("partitions assigned", partitions=_names(self._owned), unclaimed=_names(self._unclaimed))
        return self._positions()

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Kafka's callback: forget; whatever was in memory is read again by the next owner."""
        if partitions:
            fail_at(FailPoint.IN_ON_REVOKE)
        for key in partitions:
            self._give_up(key)
            self._unclaimed.pop(key, None)
            self._unanswered.pop(key, None)
        if partitions:
            _log.info("partitions revoked", partitions=_names(partitions))

    def claim_missing(self) -> None:
        """Claim what could not be claimed before, if it is time."""
        due = [key for key, at in self._unclaimed.items() if at <= self._clock()]
        if due and self._consumer is not None:
            before = len(self._owned)
            self._claim_due()
            if len(self._owned) > before:
                self._consumer.assign(self._positions())

    def lose(self, key: Partition) -> None:
        """Another process has claimed it; if Kafka doesn't take it from us soon, claim it back."""
        if self._give_up(key) and self._consumer is not None:
            _log.warning("partition has another owner", topic=key[0], partition=key[1])
            self._consumer.pause([key])
            self._unclaimed[key] = self._clock() + self._patience

    def _give_up(self, key: Partition) -> bool:
        """Own it no more, and tell nothing of it any more; whether it was owned."""
        owned = self._owned.pop(key, None)
        if owned is None:
            return False
        # The next owner tells it, maybe on another machine: whoever adds up would count it twice.
        accounts.lag(key, 0)
        if owned.stopped is not None:
            accounts.goes_on(key, owned.stopped.reason)
        return True

    def stop(self, key: Partition, why: Stop) -> None:
        """Stop reading a partition, loudly, until a person has looked at it."""
        owned = self._owned.get(key)
        if owned is None or owned.stopped is not None:
            return
        owned.rewind(owned.next_offset)
        owned.stopped, owned.is_stop_noted = why, False
        accounts.stopped(key, why.reason)
        _log.error(
            "partition stopped",
            topic=key[0],
            partition=key[1],
            next_offset=owned.next_offset,
            reason=why.text,
        )

    def stop_cut_off(self) -> None:
        """Stop partitions that Kafka cannot go on with, once what was read before has landed: it exists nowhere else.

        Raises:
            EnvironmentFault: Kafka does not tell what it holds.
        """
        assert self._consumer is not None
        for owned in self:
            if owned.is_cut_off and not owned.has_work:
                bounds = self._consumer.bounds(owned.key)
                self._consumer.pause([owned.key])
                self.stop(owned.key, unreadable(owned.key, owned.position, bounds))

    def count(self, key: Partition, read: int, dead: int) -> None:
        """Add a batch that landed to the dead-letter limit of its partition, which stops when it is passed."""
        owned = self.get(key)
        if owned is not None and (why := owned.count(read, dead)) is not None:
            assert self._consumer is not None
            self._consumer.pause([key])
            self.stop(key, limit_passed(key, owned.next_offset, why))

    def recognise(self) -> None:
        """Stop partitions whose topic was made anew while they were read: their offsets mean nothing any more."""
        assert self._consumer is not None
        for owned in self:
            topic = owned.key[0]
            try:
                if (
                    owned.topic_id is not None
                    and self._topic_ids.latest(topic) not in (None, owned.topic_id)
                    and self._topic_ids.ask(topic) != owned.topic_id
                ):
                    bounds = self._consumer.bounds(owned.key)
                    self._consumer.pause([owned.key])
                    self.stop(owned.key, made_anew(owned.key, bounds))
            except EnvironmentFault as error:
                _log.warning("topic cannot be recognised yet", topic=topic, reason=str(error))

    def look_at_claims(self) -> None:
        """Find out that somebody has moved an offset (which raises the epoch); landing would, but these don't land.

        A stopped partition is claimed again at once: only a person moves it.
        """
        quiet = {key: owned for key, owned in self._owned.items() if owned.stopped or not owned.has_work}
        if not quiet:
            return
        for key, row in self._landings.claims(quiet).items():
            if row.epoch == quiet[key].epoch:
                continue
            if quiet[key].stopped is None:
                self.lose(key)
            else:
                self._give_up(key)
                self._unclaimed[key] = self._clock()

    def _claim_due(self) -> None:
        began = self._clock()
        for key in list(self._unclaimed):
            asked = self._clock()
            if self._unclaimed[key] > asked:
                continue
            try:
                self._owned[key] = self._claim(key)
            except EnvironmentFault as error:
                _log.warning(
                    "partition cannot be claimed yet", topic=key[0], partition=key[1], reason=str(error)
                )
                # Behind the others, so that it never keeps them from being claimed.
                self._unclaimed[key] = self._unclaimed.pop(key)
                if not isinstance(error, Unanswered):  # Postgres: the others would fare no better
                    self._put_off(self._unclaimed, self._backoff.next())
                    return
                wait = self._unanswered.setdefault(key, Backoff()).next()
                self._put_off(self._unanswered, wait + _PATIENCE * (self._clock() - asked))
                if self._clock() - began > _LONGEST_ROUND:
                    return  # those that are left are due still, after the next fetch
            else:
                self._backoff.reset()
                self._unanswered.pop(key, None)
                del self._unclaimed[key]

    def _put_off(self, keys: Iterable[Partition], wait: float) -> None:
        for key in keys:
            self._unclaimed[key] = max(self._unclaimed[key], self._clock() + wait)

    def _claim(self, key: Partition) -> Owned:
        assert self._consumer is not None
        bounds, topic_id = self._consumer.bounds(key), self._topic_ids.ask(key[0])
        # Partitions added to a topic that is being read are new altogether: nothing of them was skipped.
        claimed = self._landings.claim(key, bounds.low, self._ends_if_new(key, bounds))
        limit = self._make_limit()
        accounts.claimed(key)
        owned = Owned(key, claimed, limit)
        owned.topic_id = topic_id
        is_other = topic_id is not None and self._landings.identify(key, claimed, topic_id) not in (
            None,
            topic_id,
        )
        # A limit that was passed stays passed, whoever owns the partition now, until a person has decided.
        all_dead = limit.recall(self._landings.history(key))
        why: Stop | None = None
        if is_other:
            why = made_anew(key, bounds)
        elif not bounds.low <= owned.next_offset <= bounds.high:
            why = unreadable(key, owned.next_offset, bounds)
        elif all_dead is not None:
            why = limit_passed(key, owned.next_offset, all_dead)
        if why is not None:
            self._owned[key] = owned
            self.stop(key, why)
        return owned

    def _ends_if_new(self, key: Partition, bounds: Bounds) -> Mapping[int, int] | None:
        """Where each partition of a topic ends that nobody has read yet, if it is to be read from its end.

        As long as Kafka does not tell it of all of them, none is claimed: what is claimed makes the topic known.
        """
        assert self._consumer is not None
        if self._is_from_start:
            return None
        topic, number = key
        all_of_it = [(topic, other) for other in self._consumer.partitions(topic)]
        if self._landings.claims(all_of_it):
            return None
        return {number: bounds.high} | {other[1]: self._consumer.bounds(other).high for other in all_of_it}

    def _positions(self) -> dict[Partition, int]:
        return {owned.key: owned.position for owned in self}


def _names(partitions: Mapping[Partition, object] | Sequence[Partition]) -> list[str]:
    return [f"{topic}/{number}" for topic, number in partitions]
