"""Commands on offsets, on a real Kafka: what they show, refuse and record, and that the proof holds afterwards."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.storage import audit, offsets
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.standings import read_standings
from tests.commands import run_command
from tests.integration.ingest_process import ingest, produce, wait_until_landed, write_config
from tests.integration.landing_rig import claim, event, execute, rows, value
from tests.waiting import wait_for

Run = Callable[..., tuple[int, str, str]]


def encoded(*numbers: int) -> list[bytes]:
    return [json.dumps(event(number)).encode() for number in numbers]


@pytest.fixture
def run(
    database: str, kafka: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    parts = conninfo_to_dict(database)
    names = {"HOST": "host", "PORT": "port", "DATABASE": "dbname", "USER": "user", "PASSWORD": "password"}
    for key, part in names.items():
        monkeypatch.setenv(f"B25_DATABASE__{key}", str(parts.get(part, "")))
    monkeypatch.setenv("B25_DATABASE__SSL_MODE", "disable")
    monkeypatch.setenv("B25_KAFKA__BROKERS", kafka)
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def call(*arguments: object) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, ["analytics", *map(str, arguments)])

    return call


@pytest.fixture
def trimmed(database: str, kafka: str, topic: Callable[..., str]) -> str:
    """Kafka holds 20 to 100 of partition 0; landing stands at 60, its connection is gone."""
    name = topic(partitions=2)
    produce(kafka, name, encoded(*range(100)), partition=0)
    admin = AdminClient({"bootstrap.servers": kafka})
    [deleted] = admin.delete_records([TopicPartition(name, 0, 20)]).values()
    deleted.result(20)
    claim(database, (name, 0), 60)
    return name


def ledger(database: str) -> list[tuple[int, int, str]]:
    return rows(database, "SELECT first_offset, next_offset, note FROM ingest_batches ORDER BY batch_id")


def is_proven(database: str) -> bool:
    with connection(database, name="test") as opened:
        return all(check.holds for check in audit.verify(opened))


def test_show_tells_both_sides(run: Run, database: str, trimmed: str) -> None:
    code, out, _ = run("offsets", "show", "--json")
    [line] = json.loads(out)
    assert code == 0
    wanted = {
        "source": trimmed,
        "partition": 0,
        "next_offset": 60,
        "low": 20,
        "high": 100,
        "lag": 40,
        "epoch": 1,
    }
    assert wanted.items() <= line.items()
    assert (line["owner"], line["is_owner_connected"]) == ("analytics-landing-test", False)
    code, out, _ = run("offsets", "show", trimmed)
    assert f"{trimmed}/0" in out
    assert "(gone)" in out
    with connection(database, name="landing-test"):
        assert json.loads(run("offsets", "show", "--json")[1])[0]["is_owner_connected"] is True
    assert run("offsets", "show", "nothing")[1] == "no partition has been read yet\n"


@pytest.mark.slow
def test_show_works_without_kafka(run: Run, trimmed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B25_KAFKA__BROKERS", "127.0.0.1:1")
    code, out, err = run("offsets", "show")
    assert code == 0
    assert f"{trimmed}/0" in out
    assert "without Kafka's side" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "partition", "target", "words"),
    [
        ("seek", 0, 19, "Kafka holds 20 to 100"),
        ("seek", 0, 101, "does not exist yet"),
        ("skip-to", 0, 101, "Kafka holds 20 to 100"),
        ("skip-to", 0, 59, "only goes forward"),
        ("seek", 1, 0, "has never been read"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    run: Run, database: str, trimmed: str, command: str, partition: int, target: int, words: str
) -> None:
    code, _, err = run("offsets", command, trimmed, partition, target, "--yes")
    assert code == 2
    assert words in err
    assert ledger(database) == []
    assert value(database, "SELECT next_offset FROM ingest_offsets") == 60
    assert value(database, "SELECT epoch FROM ingest_offsets") == 1


def test_a_topic_nobody_knows_is_refused_with_those_that_are_known(run: Run, trimmed: str) -> None:
    code, _, err = run("offsets", "seek", "misspelt", 0, 5, "--yes")
    assert code == 2, err
    assert trimmed in err


@pytest.mark.slow
def test_nothing_changes_without_consent(run: Run, database: str, trimmed: str) -> None:
    code, out, _ = run("offsets", "seek", trimmed, 0, 30, "--dry-run")
    assert code == 0
    assert "30 offsets are read again" in out
    assert "nothing was changed" in out
    code, _, err = run("offsets", "seek", trimmed, 0, 30)
    assert code == 2
    assert "--yes" in err
    assert ledger(database) == []


def test_moves_are_recorded_with_who_and_why(run: Run, database: str, trimmed: str) -> None:
    code, out, _ = run("offsets", "seek", trimmed, 0, 30, "--yes", "--reason", "bad deploy", "--by", "ann")
    assert (code, "it stood at 60" in out) == (0, True)
    code, out, _ = run("offsets", "skip-to", trimmed, 0, 90, "--yes", "--reason", "poison")
    assert (code, "60 offsets are left out" in out) == (0, True)
    first, second = ledger(database)
    assert first == (60, 30, "bad deploy (seek by ann)")
    assert second[:2] == (30, 90)
    assert second[2].startswith("poison (skip-to by ")
    assert value(database, "SELECT next_offset FROM ingest_offsets") == 90
    assert is_proven(database)
    assert "bad deploy" in run("ledger", "show", "--notes")[1]


def test_a_topic_made_anew_may_be_read_from_its_beginning(run: Run, database: str, trimmed: str) -> None:
    execute(database, "UPDATE ingest_offsets SET next_offset = 5000")
    code, out, _ = run("offsets", "skip-to", trimmed, 0, 20, "--yes")
    assert code == 0
    assert "recreated or truncated" in out
    assert ledger(database)[0][:2] == (5000, 20)


@pytest.mark.slow
def test_a_running_ingest_reads_again_and_stores_nothing_twice(
    run: Run, database: str, kafka: str, topic: Callable[..., str], tmp_path: Path
) -> None:
    name = topic(partitions=1)
    produce(kafka, name, encoded(*range(100)))
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        wait_until_landed(database, name, 100)
        assert run("offsets", "seek", name, 0, 40, "--yes")[0] == 0
        wait_until_landed(database, name, 160)
        wait_for(lambda: value(database, "SELECT next_offset FROM ingest_offsets") == 100, 60)
        assert process.stop() == 0
    assert value(database, "SELECT count(*) FROM events") == 100
    assert value(database, "SELECT sum(duplicate) FROM ingest_batches") == 60
    assert is_proven(database)


def test_a_topic_is_retired_until_it_is_read_again(run: Run, database: str, trimmed: str) -> None:
    claim(database, (trimmed, 1), 0)
    code, out, _ = run("offsets", "retire", trimmed, 1, "--dry-run")
    assert (code, out) == (0, f"would retire {trimmed}/1; nothing was changed\n")
    code, _, err = run("offsets", "retire", trimmed)
    assert (code, "add --yes" in err) == (2, True)
    assert ledger(database) == []
    code, out, _ = run("offsets", "retire", trimmed, "--yes", "--reason", "gone", "--by", "me", "--json")
    both = [{"source": trimmed, "partition": 0}, {"source": trimmed, "partition": 1}]
    assert json.loads(out) == {"partitions": both, "is_retired": True}
    assert [line["is_retired"] for line in json.loads(run("offsets", "show", "--json")[1])] == [True, True]
    assert ledger(database) == [(None, None, "gone (retire by me)")] * 2
    assert is_proven(database)
    assert (
        run("offsets", "retire", trimmed, "--yes")[1]
        == f"{trimmed} is retired already; nothing was changed\n"
    )
    claim(database, (trimmed, 1), 0)
    assert [line["is_retired"] for line in json.loads(run("offsets", "show", "--json")[1])] == [True, False]


def test_a_topic_that_is_read_or_unknown_is_not_retired(run: Run, database: str, trimmed: str) -> None:
    with connection(database, name="landing-test"):
        code, _, err = run("offsets", "retire", trimmed, "--yes")
    assert (code, "is read by an ingest process that runs" in err) == (2, True)
    code, _, err = run("offsets", "retire", "misspelt", "--yes")
    assert (code, f"knows the topics {trimmed}" in err) == (2, True)
    assert value(database, "SELECT bool_or(is_retired) FROM ingest_offsets") is False


def test_a_topic_of_the_configuration_is_not_retired_but_partitions_that_kafka_lost_are(
    run: Run, database: str, trimmed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(database, (trimmed, 2), 0)  # it had more partitions before it was made anew
    monkeypatch.setenv("B25_KAFKA__TOPICS", f"another,{trimmed}")
    for partition in ((), (0,)):
        code, _, err = run("offsets", "retire", trimmed, *partition, "--yes")
        assert (code, f"take {trimmed} out of kafka.topics, restart ingest" in err) == (2, True)
    assert value(database, "SELECT bool_or(is_retired) FROM ingest_offsets") is False
    assert run("offsets", "retire", trimmed, 2, "--yes")[:2] == (
        0,
        f"{trimmed}/2: no bucket will wait for it any more\nretired {trimmed}/2\n",
    )


def test_who_claims_a_partition_keeps_it_from_being_retired(database: str, trimmed: str) -> None:
    with connection(database, name="test") as opened:
        seen = {(row.source, row.partition): row.epoch for row in read_standings(opened)}
        opened.rollback()
        claim(database, (trimmed, 0), 0)
        with pytest.raises(offsets.Moved):
            offsets.retire(opened, seen, note="too late")
    assert value(database, "SELECT bool_or(is_retired) FROM ingest_offsets") is False
    assert ledger(database) == []


def test_all_of_a_topic_that_was_made_anew_is_lag(run: Run, database: str, trimmed: str) -> None:
    claim(database, (trimmed, 1), 5)
    lines = {line["partition"]: line for line in json.loads(run("offsets", "show", "--json")[1])}
    assert (lines[1]["high"], lines[1]["lag"]) == (0, 0)
    execute(database, "UPDATE ingest_offsets SET next_offset = 500 WHERE partition = 0")
    lines = {line["partition"]: line for line in json.loads(run("offsets", "show", "--json")[1])}
    assert (lines[0]["low"], lines[0]["high"], lines[0]["lag"]) == (20, 100, 80)
