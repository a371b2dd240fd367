"""What landing depends on is no option of the user."""

from datetime import timedelta

from analytics_pipeline.ingest.kafka import client_options
from analytics_pipeline.settings import Kafka


def test_no_option_overrides_what_landing_depends_on() -> None:
    needed = {
        "bootstrap.servers": "127.0.0.1:1",
        "group.id": "g",
        "client.id": "analytics-ingest",
        "session.timeout.ms": 45_000,
        "partition.assignment.strategy": "range,roundrobin",
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "check.crcs": True,
        "allow.auto.create.topics": False,
    }
    asked = dict.fromkeys(needed, "another") | {"fetch.queue.backoff.ms": "7"}
    settings = Kafka(
        brokers=["127.0.0.1:1"], group_id="g", session_timeout=timedelta(seconds=45), options=asked
    )
    found = client_options(settings, queued_messages=1)
    assert {name: found[name] for name in needed} == needed
    assert found["fetch.queue.backoff.ms"] == "7", "the others are the user's"
