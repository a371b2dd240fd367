"""What only Kafka can do to a message, and bad messages among good ones in every mixture."""

import itertools
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.integration.ingest_process import (
    ingest,
    produce,
    wait_until_caught_up,
    wait_until_landed,
    write_config,
)
from tests.integration.landing_rig import check_books, event, execute, rows, value
from tests.raw_kafka import produce_with_header
from tests.waiting import wait_for

Topics = Callable[..., str]

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
MOST_BYTES = 3_000_000
NO_TIME = b'{"event_type":"a"}'


def encoded(*numbers: int) -> list[bytes]:
    return [json.dumps(event(number)).encode() for number in numbers]


def now_millis() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


STRANGE: dict[str, tuple[dict[str, Any], str]] = {
    "null key": ({"value": NO_TIME, "key": None}, "ok"),
    "empty key": ({"value": NO_TIME, "key": b""}, "ok"),
    "key of 1 MB": ({"value": NO_TIME, "key": b"k" * 1_048_576}, "ok"),
    "key of 1 MB, dead": ({"value": b"broken", "key": b"\x00\xff" * 524_288}, "not_json"),
    "1,000 headers": ({"value": b"broken", "headers": [("h", b"\x00")] * 1000}, "not_json"),
    "1,000 headers, good": ({"value": NO_TIME, "headers": [(f"h{n}", b"\xff") for n in range(1000)]}, "ok"),
    "duplicate and null headers": (
        {"value": b"broken", "headers": [("a", None), ("a", b""), ("é", b"x")]},
        "not_json",
    ),
    "header of 1 MB": ({"value": NO_TIME, "headers": [("source", b"s" * 1_000_000)]}, "ok"),
    "time 2^62": ({"value": NO_TIME, "timestamp": 2**62}, "too_far_in_future"),
    "time 2^62, good": ({"value": encoded(0)[0], "timestamp": 2**62}, "ok"),
    "time -1": ({"value": NO_TIME, "timestamp": -1}, "ok"),
    "time 1": ({"value": NO_TIME, "timestamp": 1}, "too_old"),
    "time 1, good": ({"value": encoded(1)[0], "timestamp": 1}, "ok"),
    "at the size limit": ({"value": NO_TIME[:-1] + b" " * (MOST_BYTES - 400) + b"}"}, "ok"),
    "at the size limit, dead": ({"value": b"x" * (MOST_BYTES - 400)}, "not_json"),
    "null value": ({"value": None, "key": b"k"}, "empty_message"),
}


def test_a_header_whose_name_is_no_text_stops_nothing(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic(partitions=1)
    produce(kafka, name, encoded(1))
    produce_with_header(kafka, name, b"\xff\xfe", b"v", encoded(2)[0])
    produce_with_header(kafka, name, b"\xff", b"v", b"broken")
    produce(kafka, name, encoded(3))
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        wait_until_landed(database, name, 4)
        assert process.stop() == 0
    assert rows(database, "SELECT source_offset FROM events ORDER BY 1") == [(0,), (1,), (3,)]
    assert rows(database, "SELECT source_offset, reason, value, headers FROM dead_letter_events") == [
        (2, "not_json", b"broken", None)
    ]
    check_books(database)


@pytest.mark.slow
def test_every_strange_message_in_every_compression(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic(
        partitions=1,
        **{"message.timestamp.after.max.ms": str(2**63 - 1), "max.message.bytes": str(MOST_BYTES)},
    )
    sent: list[tuple[str, dict[str, Any], str]] = []
    for codec in CODECS:
        producer = Producer(
            {
                "bootstrap.servers": kafka,
                "compression.type": codec,
                "message.max.bytes": MOST_BYTES,
                "linger.ms": 20,
            }
        )
        for label, (parts, outcome) in STRANGE.items():
            neighbour = {"value": NO_TIME, "timestamp": now_millis()}
            for one, expected in ((neighbour, "ok"), (parts, outcome), (neighbour, "ok")):
                sent.append((f"{codec}: {label}", one, expected))
                producer.produce(name, **one)
        assert producer.flush(30) == 0
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        wait_until_landed(database, name, len(sent))
        assert process.stop() == 0
    dead = {
        offset: (reason, key, content, json.loads(headers) if headers else None)
        for offset, reason, key, content, headers in rows(
            database,
            "SELECT source_offset, reason, key, value, convert_from(headers, 'UTF8') FROM dead_letter_events",
        )
    }
    stored = {row[0] for row in rows(database, "SELECT source_offset FROM events")}
    repeated = value(database, "SELECT sum(duplicate) FROM ingest_batches")
    assert repeated == 2 * (len(CODECS) - 1), "each codec brings the same two events with an id"
    for offset, (label, parts, expected) in enumerate(sent):
        found = "ok" if offset in stored else dead.get(offset, ("duplicate",))[0]
        if not (found == "duplicate" and "good" in label):
            assert found == expected, label
        if offset in dead:
            _, key, content, headers = dead[offset]
            assert (key, content) == (parts.get("key"), parts["value"]), label
            assert len(headers or []) == len(parts.get("headers", [])), label
    check_books(database)


@pytest.mark.slow
def test_gaps_of_compaction_are_skipped_and_recorded(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic(
        partitions=1,
        **{
            "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": "0.001",
            "segment.ms": "100",
            "max.compaction.lag.ms": "100",
            "delete.retention.ms": "0",
        },
    )
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0})

    def send(number: int, key: bytes) -> None:
        producer.produce(name, encoded(number)[0], key=key)
        assert producer.flush(20) == 0

    for number in range(300):
        producer.produce(name, encoded(number)[0], key=b"same")
    assert producer.flush(20) == 0
    reader = Consumer({"bootstrap.servers": kafka, "group.id": "none", "enable.auto.commit": False})
    numbers = itertools.count(1000)

    def is_compacted() -> bool:
        send(next(numbers), b"other")  # rolls the segment, so that it can be cleaned
        reader.assign([TopicPartition(name, 0, 0)])
        first = reader.poll(2)
        return first is not None and first.error() is None and first.offset() > 200

    wait_for(is_compacted, 60, "Kafka compacts")
    reader.close()
    end = next(numbers) - 1000 + 300
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        wait_until_caught_up(database, name, end)
        assert process.stop() == 0
    read, skipped = rows(database, "SELECT sum(read), sum(skipped) FROM ingest_batches")[0]
    assert skipped >= 200
    assert read + skipped == end
    assert read == value(database, "SELECT count(*) FROM events")
    check_books(database)


MIXES: dict[str, tuple[int, set[int]]] = {
    "edges of a whole batch": (3_000, {0, 2_999}),
    "one in 10,000": (10_000, {7_777}),
    "first and last": (1_000, {0, 999}),
    "half, alternating": (1_000, set(range(0, 1_000, 2))),
    "half, in a row": (1_000, set(range(500))),
    "all but one": (500, set(range(500)) - {250}),
}


@pytest.mark.slow
@pytest.mark.parametrize("refused_by", ["decode", "Postgres"])
def test_mixes(database: str, kafka: str, topic: Topics, tmp_path: Path, refused_by: str) -> None:
    """Dead are exactly the bad ones, wherever they stand; also where only Postgres knows that they are bad."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    mixes = dict(MIXES)
    if refused_by == "Postgres":
        execute(database, "ALTER TABLE events ADD CONSTRAINT no_refused CHECK (user_id <> 'refused')")
        mixes = {name: mixes[name] for name in ("edges of a whole batch", "one in 10,000", "first and last")}
        mixes |= {f"position {n} of 5": (5, {n}) for n in range(5)}
        mixes |= {"neighbours": (300, {100, 101, 102}), "all": (20, set(range(20)))}
    mixes["anywhere"] = (1_000, {chosen.randrange(1_000) for _ in range(8)})
    sent: list[tuple[bytes, bool]] = []
    numbers = itertools.count()
    for total, positions in mixes.values():
        for position in range(total):
            is_bad, number = position in positions, next(numbers)
            fields = {"user_id": "refused"} if is_bad else {}
            good = json.dumps(event(number, **fields)).encode()
            sent.append((b"broken" if is_bad and refused_by == "decode" else good, is_bad))
    name = topic(partitions=1)
    produce(kafka, name, [content for content, _ in sent])
    config = write_config(
        tmp_path, database, kafka, [name], batch_size=3_000, dead_letter_consecutive=100_000
    )
    with ingest(config) as process:
        wait_until_landed(database, name, len(sent))
        assert process.stop() == 0
    reason = {"decode": "not_json", "Postgres": "refused_by_database"}[refused_by]
    dead = dict(
        rows(database, "SELECT source_offset, value FROM dead_letter_events WHERE reason = %s", reason)
    )
    assert dead == {offset: content for offset, (content, is_bad) in enumerate(sent) if is_bad}
    stored = {row[0] for row in rows(database, "SELECT source_offset FROM events")}
    assert stored == {offset for offset, (_, is_bad) in enumerate(sent) if not is_bad}
    check_books(database)
