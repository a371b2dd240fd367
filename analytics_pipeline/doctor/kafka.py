"""Checks of Kafka: brokers, topics, clocks of producers, lag, partitions that stand still until somebody decides.

Belongs here: judging. Does not belong here: the questions (`ingest.cluster`, `ingest.topics`, `storage`).
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from analytics_pipeline.doctor.findings import Verdict, ok, problem, remark
from analytics_pipeline.doctor.installation import Installation
from analytics_pipeline.ingest import cluster
from analytics_pipeline.ingest.consumer import Bounds, Partition
from analytics_pipeline.ingest.stops import unreadable
from analytics_pipeline.ingest.topics import bounds
from analytics_pipeline.storage.standings import Standing, read_standings
from analytics_pipeline.storage.tolerances import LATE_SECONDS

_LONG_OUTAGE = timedelta(days=3)
_SHORT_OUTAGE = timedelta(hours=6)


def reachable(found: Installation) -> Iterator[Verdict]:
    """The brokers."""
    known = cluster.cluster(found.settings.kafka)
    version = f"Kafka {known.version}" if known.version else "Kafka of a version that this user may not see"
    yield ok(f"{version}, {known.brokers} broker{'s' if known.brokers != 1 else ''}")


def topics(found: Installation) -> Iterator[Verdict]:
    """Whether each exists, and keeps its messages for longer than we might be away."""
    kafka = found.settings.kafka
    brokers = cluster.cluster(kafka).brokers
    known = cluster.topics(kafka, kafka.topics)
    missing = [name for name, topic in known.items() if topic is None]
    if missing and kafka.create_topics:
        yield remark(f"{', '.join(missing)}: not there yet", "ingest creates them when it starts")
    elif missing:
        yield problem(
            f"{', '.join(missing)}: no such topics", "create them, or set kafka.create_topics: true"
        )
    for name, topic in known.items():
        if topic is not None:
            yield from judge_topic(name, topic, brokers)
    total = sum(topic.partitions for topic in known.values() if topic is not None)
    workers = found.settings.analytics.ingestion.workers
    if 0 < total < workers:
        yield remark(
            f"{total} partitions keep only as many of the {workers} landing connections busy",
            "add partitions, or lower analytics.ingestion.workers",
        )
    yield ok(f"{len(known) - len(missing)} topics with {total} partitions")


def judge_topic(name: str, topic: cluster.Topic, brokers: int) -> Iterator[Verdict]:
    """One topic that exists."""
    alter = f"kafka-configs --alter --entity-type topics --entity-name {name} --add-config"
    if topic.leaderless:
        yield problem(
            f"{name}: {topic.leaderless} partitions have no leader and cannot be read", "look at the brokers"
        )
    if topic.under_replicated:
        yield remark(
            f"{name}: {topic.under_replicated} partitions have a copy that is behind", "look at the brokers"
        )
    if topic.replication == 1 and brokers > 1:
        yield remark(
            f"{name}: one copy alone, although there are {brokers} brokers: a broken disk loses what has not landed",
            "raise its replication factor (kafka-reassign-partitions)",
        )
    if topic.retention is not None and topic.retention < _LONG_OUTAGE:
        hours = topic.retention.total_seconds() / 3600
        words = f"{name}: messages are deleted after {hours:,.1f} h, landed or not: a longer outage of ours loses them"
        advice = f"{alter} retention.ms=604800000"
        yield problem(words, advice) if topic.retention < _SHORT_OUTAGE else remark(words, advice)
    if topic.is_compacted:
        yield remark(
            f"{name}: compacted: of messages with one key only the last is sure to be read",
            f"{alter} cleanup.policy=delete",
        )
    if not topic.has_id:
        yield remark(
            f"{name}: these brokers do not report topic ids, so a recreated topic is recognised only by its offsets",
            "use Kafka 2.8 or newer",
        )


def clock(found: Installation) -> Iterator[Verdict]:
    """Timestamps that lie ahead of us: of the broker where topics keep the time of arrival, else of producers."""
    kafka = found.settings.kafka
    known = cluster.topics(kafka, kafka.topics)
    everything = [
        (name, number) for name, topic in known.items() if topic for number in range(topic.partitions)
    ]
    latest = cluster.newest(kafka, everything)
    if latest is None:
        yield ok("no message tells a time")
        return
    ahead, limit = latest - found.now(), found.settings.analytics.ingestion.max_future_skew
    words = f"a message in Kafka is {ahead.total_seconds():,.1f} s ahead of our clock"
    advice = "let brokers and producers follow NTP; `analytics sources` shows whose clock it is"
    if ahead > limit:
        yield problem(f"{words}: an event of this time becomes a dead letter (too_far_in_future)", advice)
    elif ahead > timedelta(seconds=1):
        yield remark(words, advice)
    else:
        yield ok(
            f"no message in Kafka is ahead of our clock; the newest is {-ahead.total_seconds():,.1f} s old"
        )


def lag(found: Installation) -> Iterator[Verdict]:
    """What waits in Kafka, and whether somebody lands it."""
    rows, held = _standings(found)
    if not rows:
        yield remark("no partition has ever been read", "start `analytics ingest`, or `analytics up`")
        return
    waiting = sum(_behind(row, held) for row in rows)
    orphans = [row for row in rows if not row.is_owner_connected]
    now = found.now()
    stale = [
        row
        for row in rows
        if row.caught_up_at is None or (now - row.caught_up_at).total_seconds() > LATE_SECONDS
    ]
    if orphans and waiting:
        yield problem(
            f"{len(orphans)} of {len(rows)} partitions have no ingest process, and {waiting:,} messages wait",
            "start `analytics ingest`, or `analytics up`",
        )
    elif orphans:
        yield remark(
            f"{len(orphans)} of {len(rows)} partitions have no ingest process", "start `analytics ingest`"
        )
    elif stale:
        names = ", ".join(f"{row.source}/{row.partition}" for row in stale)
        yield problem(
            f"for more than 5 minutes not everything that Kafka held has landed: {names}",
            "see the log of ingest and `analytics offsets show`",
        )
    else:
        yield ok(f"{waiting:,} messages wait; every partition has caught up within 5 minutes")


def stops(found: Installation) -> Iterator[Verdict]:
    """Partitions that stand still until a person decides."""
    rows, held = _standings(found)
    count = 0
    for row in rows:
        key = (row.source, row.partition)
        there, words = held.get(key), row.stopped
        if there is not None and not there.low <= row.next_offset <= there.high:
            words = unreadable(key, row.next_offset, there).text  # also where no ingest has seen it yet
        if words is not None:
            count += 1
            sentence, _, advice = words.partition("; ")
            yield problem(f"{row.source}/{row.partition} stands still: {sentence}", advice)
    if not count:
        yield ok("no partition stands still")


def _standings(found: Installation) -> tuple[list[Standing], Mapping[Partition, Bounds]]:
    with found.postgres() as opened:
        rows = [
            row
            for row in read_standings(opened)
            if not row.is_retired and row.source in found.settings.kafka.topics
        ]
    return rows, bounds(found.settings.kafka, [(row.source, row.partition) for row in rows])


def _behind(row: Standing, held: Mapping[Partition, Bounds]) -> int:
    there = held.get((row.source, row.partition))
    return max(0, there.high - row.next_offset) if there else 0
