"""Settings: sources and their order, durations, all problems at once, secrets never shown, the example file."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.settings import (
    ORIGINAL_VARIABLES,
    Settings,
    adopt,
    environment,
    load_settings,
    parse_duration,
    project_file,
    settings,
    state_folder,
)

EXAMPLE = project_file("config.example.yaml")


def keys(model: BaseModel) -> dict[str, object]:
    return {
        name: keys(value) if isinstance(value := getattr(model, name), BaseModel) else None
        for name in type(model).model_fields
    }


def named(content: object, model: BaseModel) -> object:
    if not isinstance(content, dict):
        return None
    return {
        key: named(value, getattr(model, key)) if isinstance(getattr(model, key), BaseModel) else None
        for key, value in content.items()
    }


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_the_example_is_the_defaults() -> None:
    assert load_settings(EXAMPLE) == Settings()


def test_the_example_lists_every_key() -> None:
    assert named(yaml.safe_load(EXAMPLE.read_text()), Settings()) == keys(Settings())


def test_no_file_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("B25_CONFIG")
    monkeypatch.chdir(tmp_path)
    assert load_settings() == Settings()


def test_the_working_directory_s_file_is_read(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    monkeypatch.delenv("B25_CONFIG")
    monkeypatch.chdir(config.parent)
    config.write_text("server: {port: 1234}")
    assert load_settings().server.port == 1234


def test_the_environment_wins_over_the_file_and_ours_over_the_original_s(
    monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    config.write_text("server: {port: 1}\ndatabase: {host: file, port: 2}\nkafka: {group_id: file}")
    monkeypatch.setenv("SERVER_PORT", "10")
    monkeypatch.setenv("DB_HOST", "original")
    monkeypatch.setenv("B25_DATABASE__HOST", "ours")
    monkeypatch.setenv("B25_ANALYTICS__INGESTION__BATCH_TIMEOUT", "5s")
    monkeypatch.setenv("KAFKA_BROKERS", "a:1, b:2")
    found = load_settings(config)
    assert found.server.port == 10
    assert (found.database.host, found.database.port) == ("ours", 2)
    assert found.kafka.group_id == "file"
    assert found.kafka.brokers == ["a:1", "b:2"]
    assert found.analytics.ingestion.batch_timeout == timedelta(seconds=5)


@pytest.mark.parametrize("variable", sorted(ORIGINAL_VARIABLES))
def test_every_variable_of_the_original_has_its_key(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    section, key = ORIGINAL_VARIABLES[variable]
    value = {"LOG_LEVEL": "WARN"}.get(variable, "4321")
    monkeypatch.setenv(variable, value)
    before, after = Settings(), load_settings()
    assert getattr(getattr(before, section), key) != getattr(getattr(after, section), key)


def test_the_original_s_own_values_are_read(config: Path) -> None:
    config.write_text(
        "analytics:\n  ingestion: {batch_size: 1000, batch_timeout: 5s, workers: 4, buffer_size: 10000}\n"
        "  retention: {raw_events: 90d, hourly_aggregates: 730d}\nlogging: {level: INFO, format: json}\n"
    )
    assert load_settings(config).analytics.ingestion.batch_size == 1000


def test_all_problems_are_told_at_once_by_key(config: Path) -> None:
    config.write_text(
        "server: {port: 99999, prot: 1}\nkafka: {topic: {partitions: 0}}\nnonsense: {}\n"
        "analytics: {ingestion: {batch_timeout: 5}, retention: {raw_events: 400d}}\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config)
    found = {problem.split(":")[0] for problem in caught.value.problems}
    assert found == {
        "server.port",
        "server.prot",
        "kafka.topic.partitions",
        "nonsense",
        "analytics.ingestion.batch_timeout",
        "analytics.retention",
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("simulatr: {rate: 1}", "simulatr: is not a known setting in config.yaml; did you mean simulator?"),
        (
            "server: {Prot: 1}",
            "server.Prot: is not a known setting in config.yaml; did you mean server.port?",
        ),
        (
            "kafka_port: 1",
            "kafka_port: is not a known setting in config.yaml; did you mean local_stack.kafka_port?",
        ),
        ("zzz: 1", "zzz: is not a known setting in config.yaml; check its spelling and its section"),
    ],
)
def test_an_unknown_key_is_told_with_its_file_as_it_was_named_and_the_nearest_key(
    monkeypatch: pytest.MonkeyPatch, config: Path, text: str, sentence: str
) -> None:
    config.write_text(text)
    monkeypatch.chdir(config.parent)
    for named in ("config.yaml", ""):  # "": it is found in the working directory
        monkeypatch.setenv("B25_CONFIG", named)
        with pytest.raises(ConfigurationError) as caught:
            load_settings()
        assert caught.value.problems == (sentence,)


def test_an_unknown_key_of_the_environment_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B25_SIMULATR__RATE", "1")
    with pytest.raises(
        ConfigurationError, match=r"simulatr: .* in B25_SIMULATR__RATE; did you mean simulator\?"
    ):
        load_settings()


def test_the_state_folder_is_known_where_other_settings_have_mistakes(
    monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    monkeypatch.setenv("B25_CONFIG", str(config))
    for text, folder in (
        ("nonsense: 1\nlocal_stack: {state_folder: there}", "there"),
        ("nonsense: 1\nlocal_stack: 5", ".analytics"),
        ("\tx: 1", ".analytics"),
        ("- 1", ".analytics"),
    ):
        config.write_text(text)
        settings.cache_clear()
        found, problems = state_folder()
        assert (str(found), bool(problems)) == (folder, True)
    monkeypatch.setenv("B25_LOCAL_STACK__STATE_FOLDER", "elsewhere")
    assert state_folder()[0] == Path("elsewhere")


def test_secrets_are_never_repeated(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    config.write_text("database: {password: [hunter2], url: {hunter2: 1}}\nredis: {password: {a: hunter2}}")
    monkeypatch.setenv("B25_KAFKA__OPTIONS", "hunter2")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config)
    assert len(caught.value.problems) == 4
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    config.write_text(
        "database: {password: hunter2, url: 'postgres://u:hunter2@h/d'}\nredis: {password: hunter2}"
    )
    monkeypatch.delenv("B25_KAFKA__OPTIONS")
    assert "hunter2" not in repr(load_settings(config))


@pytest.mark.parametrize("text", ["a: [1", "- 1", "\tx: 1"])
def test_a_file_that_is_not_a_mapping_is_named(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(ConfigurationError, match=r"config\.yaml"):
        load_settings(config)


def test_a_missing_file_is_named(config: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_settings(config)


def test_beyond_loopback_needs_a_decision(config: Path) -> None:
    config.write_text("server: {host: 0.0.0.0}")
    with pytest.raises(ConfigurationError, match="allow_anonymous"):
        load_settings(config)
    for decision in ("allow_anonymous", "api_key_enabled"):
        config.write_text(f"server: {{host: 0.0.0.0}}\nsecurity: {{{decision}: true}}")
        assert load_settings(config).server.host == "0.0.0.0"


@pytest.mark.parametrize(
    "origin", ["page.example", "https://page.example/", "https://*.example", "null", "https://a b"]
)
def test_origins_are_written_as_browsers_do(config: Path, origin: str) -> None:
    config.write_text(f"security: {{cors: {{enabled: true, allowed_origins: ['{origin}']}}}}")
    with pytest.raises(ConfigurationError, match=r"security\.cors\.allowed_origins"):
        load_settings(config)


@pytest.mark.parametrize("name", ["http", "_replay", "_import"])
def test_a_topic_cannot_have_the_name_of_a_source_of_ours(config: Path, name: str) -> None:
    config.write_text(f"kafka: {{topics: [order.events, {name}]}}")
    with pytest.raises(ConfigurationError, match=f"kafka.*{name}"):
        load_settings(config)


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_durations_have_a_unit(number: int, unit: str) -> None:
    seconds = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[unit]
    assert abs(parse_duration(f"{number}{unit}").total_seconds() - number * seconds) < 1e-3


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5y", "1d2", None, 3])
def test_other_durations_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="unit"):
        parse_duration(text)


def test_conninfo_of_parts_and_of_a_url(tmp_path: Path, config: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from file\n")
    config.write_text(
        f"database: {{password: x, password_file: {secret}, host: h, port: 1, ssl_mode: require}}"
    )
    parts = conninfo_to_dict(load_settings(config).database.conninfo())
    assert parts["password"] == "from file"
    assert (parts["host"], parts["port"], parts["sslmode"]) == ("h", "1", "require")
    assert (parts["connect_timeout"], parts["tcp_user_timeout"], parts["keepalives_idle"]) == (
        "5",
        "10000",
        "5",
    )
    config.write_text("database: {url: 'postgres://u:p@other:7/name?tcp_user_timeout=3000', host: ignored}")
    parts = conninfo_to_dict(load_settings(config).database.conninfo())
    assert (parts["user"], parts["host"], parts["port"], parts["dbname"]) == ("u", "other", "7", "name")
    assert (parts["connect_timeout"], parts["tcp_user_timeout"]) == ("5", "3000")


def test_adopted_variables_hold_from_the_next_reading_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B25_SERVER__PORT", "1")  # so that it is put back afterwards
    assert settings().server.port == 1
    adopt({"B25_SERVER__PORT": "2"})
    assert settings().server.port == 2
    assert environment()["B25_SERVER__PORT"] == "2"


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ({}, [30, 30, 30, 30, 30]),
        ({"grace": "2m"}, [120, 120, 120, 120, 120]),
        ({"grace_by_interval": {"1h": "5m"}}, [30, 30, 30, 300, 300]),
        ({"grace_by_interval": {"1m": "10s"}}, [10, 30, 30, 30, 30]),
        ({"grace_by_interval": {"1m": "0s", "5m": "0s", "1d": "1h"}}, [0, 0, 30, 30, 3600]),
        ({"grace_by_interval": '{"5m": "1m"}'}, [30, 60, 60, 60, 60]),  # as in an environment variable
    ],
)
def test_each_interval_waits_at_least_as_long_as_a_finer_one(
    aggregation: dict[str, Any], expected: list[int]
) -> None:
    found = Settings.model_validate({"analytics": {"aggregation": aggregation}}).analytics.aggregation.graces
    assert {level: grace.total_seconds() for level, grace in found.items()} == dict(
        zip(("1m", "5m", "15m", "1h", "1d"), expected, strict=True)
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "{5m: 10s}",
            "analytics.aggregation: grace_by_interval: buckets of 5m would be final before those of 1m within them: "
            "raise 5m or lower 1m",
        ),
        (
            "{1h: 5m, 1d: 4m}",
            "buckets of 1d would be final before those of 1h within them: raise 1d or lower 1h",
        ),
        (
            "{2h: 5m}",
            "analytics.aggregation.grace_by_interval: 2h is not one of 1m, 5m, 15m, 1h, 1d",
        ),
        ("{1h: 5}", "analytics.aggregation.grace_by_interval.1h: write a duration with its unit"),
        ("5m", "analytics.aggregation.grace_by_interval: write durations by interval, like {1h: 5m, 1d: 1h}"),
        ("[5m]", "analytics.aggregation.grace_by_interval: write durations by interval"),
    ],
)
def test_a_grace_that_would_make_a_bucket_final_before_its_parts_is_refused(
    config: Path, text: str, sentence: str
) -> None:
    config.write_text(f"analytics: {{aggregation: {{grace_by_interval: {text}}}}}")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(config)
    assert sentence in str(refused.value)
