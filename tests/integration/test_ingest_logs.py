"""What ingest logs: where each batch came from and went, and never what was in it, nor a secret of the settings."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import yaml
from confluent_kafka import Producer
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from analytics_pipeline.errors import SchemaMismatch
from analytics_pipeline.settings import environment
from tests.integration.ingest_process import ingest, wait_until_landed, write_config
from tests.integration.landing_rig import event, execute, rows, value
from tests.waiting import wait_for

SECRETS = {
    "payload": "s3cretPayload",
    "key": "s3cretKey",
    "header": "s3cretHeader",
    "broken": "s3cretBroken",
    "field": "s3cretField",
    "type": "s3cretType",
    "refused": "s3cretRefused",
    "posted": "s3cretPosted",
    "schema": "s3cretSchema",
    "database": "s3cretDatabasePassword",
    "sasl": "s3cretSaslPassword",
}


@pytest.mark.slow
def test_lines_name_batches_and_hide_contents(
    database: str, kafka: str, topic: Callable[..., str], tmp_path: Path, postgres_server: str
) -> None:
    name, user = topic(partitions=2), f"logs_{conninfo_to_dict(database)['dbname']}"
    parts = conninfo_to_dict(database)
    with psycopg.connect(postgres_server, autocommit=True) as server:
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}")
        server.execute(
            statement.format(sql.Identifier(user), SECRETS["database"], sql.Identifier(str(parts["user"])))
        )
    config = write_config(tmp_path, database, kafka, [name])
    content = yaml.safe_load(config.read_text())
    content["database"] = {
        "url": f"postgresql://{user}:{SECRETS['database']}@{parts['host']}:{parts['port']}/{parts['dbname']}"
        "?sslmode=disable"
    }
    content["kafka"]["options"] = {"sasl.username": "ann", "sasl.password": SECRETS["sasl"]}
    content["logging"] = {"level": "debug", "format": "json"}
    config.write_text(yaml.safe_dump(content))
    schema = {"type": "object", "properties": {"a": {"const": SECRETS["schema"]}}, "required": ["a"]}
    execute(
        database,
        "INSERT INTO custom_event_definitions (name, schema) VALUES ('checked', %s)",
        json.dumps(schema),
    )
    sent = [
        json.dumps(event(0, properties={"a": SECRETS["payload"]})).encode(),
        SECRETS["broken"].encode(),
        b'{"event_type": "' + SECRETS["broken"].encode(),
        json.dumps(event(1, **{SECRETS["field"]: SECRETS["field"], "timestamp": SECRETS["broken"]})).encode(),
        json.dumps(event(2, event_type="checked", properties={"b": SECRETS["payload"]})).encode(),
        json.dumps(event(3, event_type=SECRETS["type"] + "\n")).encode(),
        json.dumps(event(4, user_id={"a": SECRETS["payload"]})).encode(),
    ]
    execute(
        database,
        "ALTER TABLE events ADD CONSTRAINT refuses CHECK (user_id <> %s)".replace(
            "%s", f"'{SECRETS['refused']}'"
        ),
    )
    sent.append(json.dumps(event(5, user_id=SECRETS["refused"])).encode())
    with ingest(config) as process:
        producer = Producer({"bootstrap.servers": kafka})
        for content_sent in sent:
            producer.produce(
                name,
                content_sent,
                key=SECRETS["key"],
                headers=[(SECRETS["header"], SECRETS["header"].encode())],
                partition=0,
            )
        assert producer.flush(20) == 0
        wait_until_landed(database, name, len(sent))
        posted = json.dumps(event(6, properties={"a": SECRETS["posted"]})).encode()
        execute(database, "INSERT INTO http_inbox (payload) VALUES (%s)", posted)
        wait_until_landed(database, "http", 1)
        # An outage: the server ends every connection, landing is in the way of a lock, then goes on.
        execute(
            make_conninfo(postgres_server, dbname=str(parts["dbname"])),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        with psycopg.connect(database) as lock:
            lock.execute("LOCK TABLE ingest_batches IN ACCESS EXCLUSIVE MODE")
            producer.produce(name, sent[0].replace(b"o-0", b"o-1"), partition=1)
            assert producer.flush(20) == 0
            wait_for(lambda: "landing waits" in process.log, 30)
        wait_until_landed(database, name, len(sent) + 1)
        assert process.stop() == 0
    assert value(database, "SELECT count(*) FROM dead_letter_events") >= 5
    log = process.log
    assert [kind for kind, secret in SECRETS.items() if secret in log] == []

    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    landed = [line for line in lines if line["event"] == "batch landed"]
    told = {
        (line["batch_id"], line["topic"], line["partition"], line["first_offset"], line["next_offset"])
        for line in landed
    }
    booked = rows(
        database, "SELECT batch_id, source, partition, first_offset, next_offset FROM ingest_batches"
    )
    assert told == set(booked)
    [waits, *_] = [line for line in lines if line["event"] == "landing waits"]
    assert all(re.fullmatch(rf"{re.escape(name)}/\d+@\d+", one) for one in waits["partitions"])
    with psycopg.connect(make_conninfo(postgres_server), autocommit=True) as server:
        server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(user)))


@pytest.mark.slow
@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["", "debug"])
def test_what_a_person_has_to_mend_is_a_sentence_and_with_debug_a_place(
    database: str, tmp_path: Path, debug: list[str]
) -> None:
    execute(
        database, "INSERT INTO schema_migrations (version, name, checksum) VALUES (9999, '9999_later', 'x')"
    )
    config = write_config(tmp_path, database, None, [])
    run = "import sys; from analytics_pipeline.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", run, "ingest", "--config", str(config), *debug],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == SchemaMismatch.exit_code
    assert "(it has 9999_later): start the newer release again, or restore the backup" in done.stderr
    assert ("Traceback" in done.stderr) == bool(debug)
