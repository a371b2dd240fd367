"""The programs of docs/producers.md in other languages, compiled and run; skipped where a language is not there."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from analytics_pipeline.events.decode import decode_posted
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.storage.landing import Lander
from tests.integration.landing_rig import decode_inbox, rows
from tests.integration.restless_api import running_api

DOCUMENTATION = (Path(__file__).parents[2] / "docs/producers.md").read_text()
FRANZ_GO = "github.com/twmb/franz-go@v1.22.3"


def program(language: str) -> str:
    [found] = re.findall(rf"```{language}\n(.*?)```", DOCUMENTATION, re.DOTALL)
    return found


def find(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"there is no {tool} on this machine")
    return found


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("language", "tool", "file"), [("js", "node", "send.mjs"), ("java", "java", "Send.java")]
)
def test_a_documented_program_posts_an_event(
    language: str, tool: str, file: str, database: str, tmp_path: Path
) -> None:
    command = find(tool)
    path = tmp_path / file
    with running_api(database) as api:
        path.write_text(program(language).replace("http://localhost:9097", api.url))
        done = run(command, file, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        # An event that the service refuses is an error of the program, with the service's reason.
        path.write_text(path.read_text().replace("order.placed", ""))
        refused = run(command, file, folder=tmp_path)
    assert refused.returncode != 0
    assert "HTTP 400" in refused.stderr
    assert "bad_event_type" in refused.stderr
    lander = Lander(database, name="landing-test")
    while lander.land_inbox(20_000, decode_inbox) is not None:
        pass
    lander.close()
    [(event_type, identity)] = rows(database, "SELECT event_type, id FROM events")
    assert (event_type, done.stdout) == ("order.placed", f"durable: {identity}\n")
    assert rows(database, "SELECT producer, read FROM source_statistics_live") == [("order-execution", 1)]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_documented_go_program_produces_an_event(
    kafka: str, topic: Callable[..., str], tmp_path: Path
) -> None:
    go, name = find("go"), topic(1)
    if run(go, "mod", "download", FRANZ_GO, folder=tmp_path).returncode != 0:
        pytest.skip("Go's Kafka library can be had neither from the cache nor from the network")
    text = program("go").replace("localhost:9092", kafka).replace("order.events", name)
    (tmp_path / "main.go").write_text(text)
    for step in (("mod", "init", "example"), ("get", FRANZ_GO), ("mod", "tidy"), ("vet", "."), ("run", ".")):
        done = run(go, *step, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert done.stdout == "delivered: 0 0\n"
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(name, 0, 0)])
    [message] = consumer.consume(1, timeout=20)
    consumer.close()
    assert message.headers() == [("source", b"order-execution")]
    event = decode_posted(message.value(), now=datetime.now(UTC), limits=Limits())
    assert json.loads(event.payload)["event_type"] == "order.placed"
