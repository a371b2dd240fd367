"""A command beside a running stack: it is led there, and what was set for it alone stays."""

from pathlib import Path

import pytest

from analytics_pipeline.cli import workers
from analytics_pipeline.local_stack.detached import join
from analytics_pipeline.local_stack.state import Record, StateFolder
from analytics_pipeline.settings import load_settings, settings


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stack that runs, with ports of its own; returns a configuration file for somebody else."""
    variables = {
        "B25_SERVER__PORT": "1097",
        "B25_METRICS__PORT": "1098",
        "B25_REDIS__PORT": "1079",
        "B25_CONFIG": str(tmp_path / "of-the-stack.yaml"),
    }
    for name in variables:
        monkeypatch.setenv(name, "")  # back at the end, whatever `join` does
        monkeypatch.delenv(name)
    monkeypatch.setattr(StateFolder, "is_locked", property(lambda _self: True))
    monkeypatch.setattr(StateFolder, "read", lambda _self: Record(variables=variables))
    (tmp_path / "of-the-stack.yaml").touch()
    own = tmp_path / "own.yaml"
    own.write_text("security: {api_key_enabled: true}\nserver: {port: 2097}\n")
    return own


def joined() -> tuple[int, int, int, bool]:
    join(load_settings())
    found = settings()
    return found.server.port, found.metrics.port, found.redis.port, found.security.api_key_enabled


def test_a_command_is_led_to_the_stack(stack: Path) -> None:
    assert joined() == (1097, 1098, 1079, False)


def test_ports_of_its_own_stay_but_for_any(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_PORT", "3097")
    monkeypatch.setenv("B25_METRICS__PORT", "0")
    assert joined() == (3097, 1098, 1079, False)


def test_who_serves_has_any_free_port_beside_the_stack_s(
    stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("B25_SERVER__PORT", "0")
    found = workers.joined(is_serving=True)
    assert (found.server.port, found.metrics.port) == (0, 1098)


def test_a_file_of_its_own_stays(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B25_CONFIG", str(stack))
    assert joined() == (2097, 1098, 1079, True)


def test_a_command_is_led_to_what_a_killed_supervisor_left(
    stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StateFolder, "is_locked", property(lambda _self: False))
    assert joined()[0] == 9097
    settings.cache_clear()
    monkeypatch.setattr(StateFolder, "left_over", lambda _self: ["postgres"])
    assert joined() == (1097, 1098, 1079, False)
