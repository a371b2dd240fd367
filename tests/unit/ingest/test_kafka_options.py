"""What landing depends on is no option of the user."""

from analytics_pipeline.ingest.kafka import client_options
from analytics_pipeline.settings import Kafka


def test_no_option_overrides_what_landing_depends_on() -> None:
    needed = {
        "group.id": "g",
        "partition.assignment.strategy": "range,roundrobin",
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "check.crcs": True,
        "allow.auto.create.topics": False,
    }
    asked = dict.fromkeys(needed, "another") | {"fetch.queue.backoff.ms": "7"}
    found = client_options(Kafka(brokers=["127.0.0.1:1"], group_id="g", options=asked), queued_messages=1)
    assert {name: found[name] for name in needed} == needed
    assert found["fetch.queue.backoff.ms"] == "7", "the others are the user's"
