"""The landing process on a real Kafka and a real Postgres."""

import json
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import psycopg

from tests.integration.ingest_process import (
    Ingest,
    ingest,
    produce,
    wait_until_landed,
    write_config,
)
from tests.integration.landing_rig import check_books, event, execute, rows, value
from tests.waiting import wait_for

Topics = Callable[..., str]


def test_messages_of_kafka_land_and_sigterm_leaves_nothing_behind(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic(partitions=3)
    sent = [event(number) for number in range(500)]
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        produce(kafka, name, [json.dumps(e).encode() for e in sent])
        wait_until_landed(database, name, 500)
        assert process.stop() == 0
    assert sorted(r[0] for r in rows(database, "SELECT id::text FROM events")) == sorted(e["id"] for e in sent)
    assert value(database, "SELECT count(*) FROM ingest_offsets") == 3
    check_books(database)
