"""The original's `config.yaml`, with every key that it has, works as it is."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.original_names import RENAMED, UNUSED, with_our_names
from analytics_pipeline.settings import Settings, load_settings

DAY = timedelta(days=1)
ORIGINAL: dict[str, Any] = {
    "server": {
        "host": "0.0.0.0", "port": 9097, "read_timeout": "30s", "write_timeout": "30s", "shutdown_timeout": "10s",
    },
    "database": {
        "host": "localhost", "port": 5432, "database": "analytics", "user": "analytics_user", "password": "secret",
        "ssl_mode": "disable", "max_connections": 50, "max_idle_connections": 10, "connection_lifetime": "300s",
    },
    "redis": {"host": "localhost", "port": 6379, "password": "", "db": 0, "pool_size": 10, "min_idle_conns": 5},
    "kafka": {
        "brokers": ["localhost:9092"], "consumer_group": "desk-three",
        "topics": ["trading.events", "market.data", "order.events", "user.actions"], "enable_auto_commit": False,
        "session_timeout": "30s",
    },
    "analytics": {
        "ingestion": {"batch_size": 1000, "batch_timeout": "5s", "workers": 4, "buffer_size": 10000},
        "aggregation": {"intervals": ["1m", "5m", "15m", "1h", "1d"], "workers": 2},
        "retention": {
            "raw_events": "90d", "minute_aggregates": "365d", "hour_aggregates": "800d", "daily_aggregates": "3650d",
        },
        "query": {"max_results": 10000, "default_limit": 100, "timeout": "30s", "cache_ttl": "60s"},
    },
    "metrics": {"enabled": True, "port": 9098, "path": "/metrics"},
    "logging": {"level": "info", "format": "json", "output": "stdout", "file_path": ""},
    "health": {"port": 9099, "path": "/health"},
    "custom_events": {"enabled": True, "max_properties": 50, "max_property_size": 1024},
    "realtime": {"enabled": True, "websocket_port": 9100, "max_connections": 1000, "update_interval": "1s"},
    "security": {
        "api_key_enabled": True,
        "rate_limit": {"enabled": True, "requests_per_minute": 1000, "burst": 100},
        "cors": {
            "enabled": True, "allowed_origins": ["http://localhost:3000", "http://localhost:8080"],
            "allowed_methods": ["GET", "POST", "PUT", "DELETE"], "allowed_headers": ["Content-Type", "Authorization"],
        },
    },
}  # fmt: skip
PAGE = (Path(__file__).parents[2] / "docs/migrating.md").read_text()


def keys(content: dict[str, Any], at: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for name, value in content.items():
        found |= keys(value, (*at, name)) if isinstance(value, dict) else {(*at, name): value}
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def load(path: Path, content: dict[str, Any]) -> Settings:
    path.write_text(yaml.safe_dump(content))
    return load_settings(path)


def test_the_originals_file_works_as_it_is(config: Path) -> None:
    found = load(config, ORIGINAL)
    assert found.kafka.group_id == "desk-three"
    assert found.database.connection_max_lifetime == timedelta(minutes=5)
    assert found.analytics.retention.hourly_aggregates == 800 * DAY
    assert found.analytics.retention.raw_events == 90 * DAY
    assert (found.server.host, found.security.api_key_enabled) == ("0.0.0.0", True)
    assert found.security.cors.allowed_origins == ["http://localhost:3000", "http://localhost:8080"]


def test_each_of_its_values_is_the_one_in_force(config: Path) -> None:
    """But for durations, which become times, and what nothing reads."""
    found = load(config, ORIGINAL)
    for key, value in keys(ORIGINAL).items():
        if key in UNUSED or (isinstance(value, str) and value[:1].isdigit()):
            continue
        at: Any = found
        for name in RENAMED.get(key, key):
            at = getattr(at, name)
        assert (at.get_secret_value() if hasattr(at, "get_secret_value") else at) == value, key


def test_the_environment_wins_over_the_originals_name(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B25_KAFKA__GROUP_ID", "mine")
    assert load(config, ORIGINAL).kafka.group_id == "mine"


def test_both_names_of_a_key_are_one_too_many(config: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"kafka\.consumer_group") as caught:
        load(config, {"kafka": {"consumer_group": "a", "group_id": "b"}})
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "content", [{"kafka": ["consumer_group"]}, {"analytics": {"retention": 90}}, {"security": {"cors": None}}]
)
def test_what_is_no_section_is_left_to_be_reported(content: dict[str, Any]) -> None:
    assert with_our_names(content) == content


def test_the_page_tells_of_every_key() -> None:
    described = {
        cell for line in PAGE.splitlines() if line.startswith("| `") for cell in line.split("|")[1].split("`")
    }
    assert {".".join(key) for key in keys(ORIGINAL)} <= described
