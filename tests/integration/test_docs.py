"""Every SQL statement of the documentation runs on a migrated database, and the producer on a real Kafka."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from analytics_pipeline.events.decode import decode_posted
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.ingest.topics import create_topics
from analytics_pipeline.settings import Kafka, Retention
from analytics_pipeline.storage.connection import connection as opening
from analytics_pipeline.storage.retention import write_policies
from documentation import pages
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
SQL = re.compile(r"```sql\n(.*?)```|(?:analytics sql|psql \"\$DATABASE_URL\" -c) \"([^\"]+)\"", re.DOTALL)
STATEMENTS = [
    pytest.param(block or argument, id=f"{page.stem}-{number}")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for number, (block, argument) in enumerate(SQL.findall(page.read_text()), 1)
]


def test_there_are_statements() -> None:
    assert len(STATEMENTS) > 10


@pytest.mark.slow
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_documented_statement_runs(statement: str, database: str) -> None:
    with psycopg.connect(database) as connection:
        write_policies(connection, Retention())
        connection.execute(statement)


def test_the_page_of_tables_is_up_to_date(database: str) -> None:
    with opening(database, name="test") as opened:
        written = dict(pages.of_database(opened))
    for name, text in written.items():
        assert (pages.FOLDER / name).read_text() == text, "run make docs"


def test_a_table_or_a_column_that_no_comment_describes_is_refused(database: str) -> None:
    with opening(database, name="test") as opened:
        opened.execute("CREATE TABLE mute (id integer)")
        with pytest.raises(LookupError, match="mute: say what it is"):
            dict(pages.of_database(opened))
        opened.execute("COMMENT ON TABLE mute IS 'Says nothing.'")
        with pytest.raises(LookupError, match=r"mute\.id: say what it means"):
            dict(pages.of_database(opened))


def test_the_documented_balances_hold_on_an_empty_database(database: str) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    [gaps] = [
        one for one in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "first_offset <> expected" in one
    ]
    with psycopg.connect(database) as connection:
        assert connection.execute(gaps).fetchall() == []
        connection.execute(
            "INSERT INTO ingest_batches (batch_id, source, partition, first_offset, next_offset, read, stored,"
            " duplicate, dead, catalog_version)"
            " VALUES (1, 'a', 0, 0, 5, 5, 5, 0, 0, ''), (2, 'a', 0, 6, 8, 2, 2, 0, 0, '')"
        )
        assert len(connection.execute(gaps).fetchall()) == 1


def test_the_clock_of_the_examples_is_utc(database: str) -> None:
    """`date_trunc('day', now(), 'UTC')` is what the pages use; it must be the start of the UTC day."""
    with psycopg.connect(database) as connection:
        connection.execute("SET timezone = 'Asia/Tokyo'")
        [[start]] = connection.execute("SELECT date_trunc('day', now(), 'UTC')").fetchall()
    assert start.astimezone(UTC).time() == datetime.min.time()


@pytest.mark.slow
def test_the_readme_example_of_a_producer_sends_an_event(kafka: str) -> None:
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    create_topics(Kafka(brokers=[kafka], topics=["order.events"]))
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test-docs", "auto.offset.reset": "latest"})
    known = [TopicPartition("order.events", number) for number in range(4)]
    ends = wait_for(lambda: _ends(consumer, known), message="the topic has leaders")
    result = subprocess.run(
        [sys.executable, "-c", program.replace("localhost:9092", kafka)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    consumer.assign(
        [TopicPartition(one.topic, one.partition, end) for one, end in zip(known, ends, strict=True)]
    )
    [message] = consumer.consume(1, timeout=20)
    consumer.close()
    event = decode_posted(message.value(), now=datetime.now(UTC), limits=Limits())
    assert json.loads(event.payload)["event_type"] == "order.filled"


@pytest.mark.slow
def test_the_readme_example_of_a_producer_says_when_the_topic_is_wrong(kafka: str) -> None:
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    wrong = program.replace("localhost:9092", kafka).replace("order.events", "orders.events")
    result = subprocess.run([sys.executable, "-c", wrong], capture_output=True, text=True)
    assert result.returncode == 1
    assert "not delivered within 10 s" in result.stderr


def _ends(consumer: Consumer, partitions: list[TopicPartition]) -> list[int]:
    try:
        return [consumer.get_watermark_offsets(one, timeout=10)[1] for one in partitions]
    except KafkaException:
        return []
