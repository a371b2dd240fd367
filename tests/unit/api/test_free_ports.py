"""A port that is 0 becomes a free one, which the log tells."""

import pytest
import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.settings import Settings
from api.__main__ import with_ports


def test_each_port_that_is_0_becomes_a_free_one_of_its_own() -> None:
    wanted = Settings.model_validate(
        {"server": {"port": 0}, "metrics": {"port": 0}, "health": {"port": 1099}}
    )
    with structlog.testing.capture_logs() as lines:
        found = with_ports(wanted)
    assert found.health.port == 1099
    assert len({0, found.server.port, found.metrics.port}) == 3
    assert [(line["setting"], line["port"]) for line in lines] == [
        ("server.port", found.server.port),
        ("metrics.port", found.metrics.port),
    ]
    assert wanted.server.port == 0


def test_a_host_that_is_not_of_this_machine_is_one_sentence() -> None:
    wanted = Settings.model_validate(
        {"server": {"port": 0, "host": "203.0.113.1"}, "security": {"allow_anonymous": True}}
    )
    with pytest.raises(EnvironmentFault, match=r"server\.host"):
        with_ports(wanted)
