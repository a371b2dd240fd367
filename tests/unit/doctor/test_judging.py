"""Each check that needs no server: where it fires, and that it is silent where all is well."""

import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics_pipeline.doctor import configuration, machine
from analytics_pipeline.doctor.clocks import judge_clock
from analytics_pipeline.doctor.examine import CHECKS, Check, Need, examine
from analytics_pipeline.doctor.findings import Level, Verdict, ok, problem
from analytics_pipeline.doctor.installation import Installation, look_around
from analytics_pipeline.doctor.kafka import judge_topic
from analytics_pipeline.doctor.redis import judge_policy
from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest.cluster import Topic
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.state import Record
from analytics_pipeline.settings import Settings, settings
from analytics_pipeline.storage.server import Growth

GIB = 1024**3
NOW = datetime(2026, 5, 15, 12, tzinfo=UTC)


def installation(tmp_path: Path, config: Path | None = None, **sections: Any) -> Installation:
    stack = {"state_folder": str(tmp_path / "state"), **sections.pop("local_stack", {})}
    found = Settings.model_validate({"local_stack": stack, **sections})
    return Installation(found, found, frozenset(), False, config)


def levels(verdicts: object) -> list[Level]:
    return [one.level for one in verdicts]  # type: ignore[attr-defined]


def said(verdicts: object) -> str:
    return "\n".join(f"{one.level}: {one.sentence} → {one.advice}" for one in verdicts)  # type: ignore[attr-defined]


def test_every_problem_of_the_configuration_is_a_finding_by_key(tmp_path, monkeypatch) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("server: {port: x}\nkafka: {nonsense: 1}\n")
    monkeypatch.setenv("B25_CONFIG", str(config))
    settings.cache_clear()
    findings = list(examine(*look_around()))
    told = [one.sentence for one in findings if one.level is Level.PROBLEM]
    assert [sentence.split(":")[0] for sentence in told] == ["server.port", "kafka.nonsense"]
    assert "kafka.nonsense: is not a known setting" in told[1]
    assert findings[-1].level is Level.REMARK


def test_the_originals_values_and_keys_without_effect_are_remarked_on(tmp_path) -> None:
    slow = {"batch_size": 1000, "batch_timeout": "5s", "workers": 4, "buffer_size": 1000}
    found = installation(
        tmp_path,
        analytics={"ingestion": slow},
        realtime={"websocket_port": 9100},
        database={"max_idle_connections": 5},
    )
    assert levels(configuration.speed(found)) == [Level.REMARK] * 3
    for key in ("batch_timeout", "batch_size", "buffer_size"):
        assert f"analytics.ingestion.{key}" in said(configuration.speed(found))
    assert "database.max_idle_connections, realtime.websocket_port" in said(configuration.valid(found))
    plain = installation(tmp_path)
    assert levels(configuration.speed(plain)) == [Level.OK]
    assert levels([one for one in configuration.valid(plain) if "effect" in one.sentence]) == []


@pytest.mark.parametrize(
    ("sections", "level", "word"),
    [
        ({}, Level.OK, "this machine alone"),
        (
            {"server": {"host": "0.0.0.0"}, "security": {"allow_anonymous": True}},
            Level.REMARK,
            "api_key_enabled is off",
        ),
        ({"server": {"host": "0.0.0.0"}, "security": {"api_key_enabled": True}}, Level.OK, "asks for keys"),
        ({"dagster": {"host": "0.0.0.0"}}, Level.REMARK, "has no login"),
        ({"metrics": {"host": "0.0.0.0"}}, Level.REMARK, "metrics.host"),
        ({"metrics": {"host": "0.0.0.0", "enabled": False}}, Level.OK, "this machine alone"),
    ],
)
def test_who_may_reach_it(tmp_path, sections: dict[str, Any], level: Level, word: str) -> None:
    verdicts = list(configuration.exposure(installation(tmp_path, **sections)))
    assert verdicts[0].level is level
    assert word in verdicts[0].sentence


@pytest.mark.parametrize(
    ("text", "has_one"),
    [
        ("database: {password: x}", True),
        ("database: {url: 'postgres://a:b@h/d'}", True),
        ("database: {url: 'postgres://a@h/d'}", False),
        ("kafka: {options: {sasl.password: x}}", True),
        ("database: {password: ''}", False),
        ("server: {port: 1}", False),
    ],
)
def test_a_password_that_others_can_read(tmp_path, text: str, has_one: bool) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    config.chmod(0o644)
    found = installation(tmp_path, config)
    assert (Level.PROBLEM in levels(configuration.secrets(found))) is has_one
    config.chmod(0o600)
    assert levels(configuration.secrets(found)) == [Level.OK]


def test_a_password_file_is_looked_at_too(tmp_path) -> None:
    secret = tmp_path / "secret"
    found = installation(tmp_path, database={"password_file": str(secret)})
    assert "is not there" in said(configuration.secrets(found))
    secret.write_text("x")
    secret.chmod(0o640)
    assert f"chmod 600 {secret}" in said(configuration.secrets(found))


def test_a_secret_of_the_state_folder_that_others_can_read(tmp_path) -> None:
    found = installation(tmp_path)
    assert levels(machine.folder(found)) == [Level.OK]
    password = tmp_path / "state" / "postgres" / "user.password"
    password.parent.mkdir(parents=True)
    password.write_text("x")
    password.chmod(0o644)
    assert f"chmod 600 {password}" in said(machine.folder(found))


def test_a_port_of_another_program_is_a_problem_and_names_the_setting(tmp_path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ports = {name: {"port": 0} for name in ("metrics", "health", "dagster")}
        verdicts = list(machine.ports(installation(tmp_path, server={"port": port}, **ports)))
    assert levels(verdicts) == [Level.PROBLEM]
    assert "B25_SERVER__PORT" in said(verdicts)
    verdicts = list(machine.ports(installation(tmp_path, server={"port": 7001}, metrics={"port": 7001})))
    assert "both name port 7001" in said(verdicts)


def test_a_process_that_was_stopped_is_told_once_not_by_its_ports_as_well(tmp_path, monkeypatch) -> None:
    found = replace(installation(tmp_path), is_running=True)
    ports = {name: free_port() for name in machine._OWNERS}
    found.folder.create()
    found.folder.write(Record(ports=ports, is_ready=True))
    states = dict.fromkeys(machine._OWNERS.values(), "running") | {
        "api": "stopped",
        "dagster-code": "stopped",
    }
    seen = {"processes": {name: {"state": state} for name, state in states.items()}}
    monkeypatch.setattr(machine, "status", lambda _folder: seen)
    told = said(machine.stack(found))
    assert told.count("is stopped") == 2
    told = said(machine.ports(found))
    assert [name for name in ports if f"({name})" in told] == [
        name for name, owner in machine._OWNERS.items() if states[owner] == "running"
    ]


def test_python_and_the_packages_of_embedded_servers(tmp_path, monkeypatch) -> None:
    found = Installation(Settings(), Settings(), frozenset({"kafka"}), False, None)
    assert levels(machine.python(found)) == [Level.OK]
    monkeypatch.setattr(machine, "_PACKAGES", {"kafka": ("no_such_package",)})
    assert "no_such_package" in said(machine.python(found))
    monkeypatch.setattr(machine, "_PYTHON", ((3, 99), (3, 100)))
    assert levels(machine.python(found)) == [Level.PROBLEM]


@pytest.mark.parametrize(
    ("free", "known", "level"),
    [
        (GIB // 2, None, Level.PROBLEM),
        (50 * GIB, None, Level.OK),
        (50 * GIB, Growth(0, 0, 0), Level.OK),
        (50 * GIB, Growth(20 * GIB, 2, 30 * GIB), Level.PROBLEM),
        (50 * GIB, Growth(20 * GIB, 10, 2 * GIB), Level.REMARK),
        # retention removes as much as comes from the 90th day on
        (50 * GIB, Growth(180 * GIB, 90, 2 * GIB), Level.OK),
        (300 * GIB, Growth(20 * GIB, 10, 2 * GIB), Level.OK),
    ],
)
def test_free_space_against_what_is_to_come(free: int, known: Growth | None, level: Level) -> None:
    verdicts = list(machine.judge_space("the disk", free, known, timedelta(days=90)))
    assert levels(verdicts) == [level]


@pytest.mark.parametrize(
    ("skew", "took", "level"),
    [
        (0.0, 0.01, Level.OK),
        (-2.0, 0.01, Level.REMARK),
        (7.0, 0.01, Level.PROBLEM),
        (0.8, 4.0, Level.OK),  # a slow answer proves nothing
    ],
)
def test_a_clock_is_judged_by_what_is_sure(skew: float, took: float, level: Level) -> None:
    readings = iter([NOW, NOW + timedelta(seconds=took)] * 3)
    there = NOW + timedelta(seconds=took / 2 + skew)
    verdict = judge_clock("Postgres", lambda: there, lambda: next(readings))
    assert verdict.level is level
    assert ("ahead of" in verdict.sentence) is (skew > 0)


TOPIC = Topic(4, 3, 0, 0, timedelta(days=7), None, False, True)


@pytest.mark.parametrize(
    ("changes", "brokers", "level", "word"),
    [
        ({"retention": timedelta(days=1)}, 3, Level.REMARK, "24.0 h"),
        ({"retention": timedelta(hours=1)}, 3, Level.PROBLEM, "retention.ms"),
        ({"replication": 1}, 3, Level.REMARK, "one copy alone"),
        ({"under_replicated": 2}, 3, Level.REMARK, "behind"),
        ({"leaderless": 1}, 3, Level.PROBLEM, "no leader"),
        ({"is_compacted": True}, 3, Level.REMARK, "compacted"),
        ({"has_id": False}, 3, Level.REMARK, "topic ids"),
    ],
)
def test_a_topic_that_may_lose_messages(
    changes: dict[str, Any], brokers: int, level: Level, word: str
) -> None:
    verdicts = list(judge_topic("orders", TOPIC._replace(**changes), brokers))
    assert levels(verdicts) == [level]
    assert word in said(verdicts)
    assert list(judge_topic("orders", TOPIC, brokers)) == []
    assert list(judge_topic("orders", TOPIC._replace(retention=None, replication=1), 1)) == []


@pytest.mark.parametrize(
    ("name", "most", "saves", "appends", "words"),
    [
        ("allkeys-lru", 1_000_000, "", False, []),
        ("noeviction", 1_000_000, "", False, ["maxmemory-policy is noeviction"]),
        ("allkeys-lru", 0, "", False, ["no limit of memory"]),
        ("allkeys-lru", 1_000_000, "3600 1", False, ["writes to its disk"]),
        ("volatile-lru", 0, "", True, ["no limit", "volatile-lru", "writes to its disk"]),
    ],
)
def test_redis_as_a_cache(name: str, most: int, saves: str, appends: bool, words: list[str]) -> None:
    verdicts = [
        one for one in judge_policy(name, most, saves=saves, appends=appends) if one.level is not Level.OK
    ]
    assert levels(verdicts) == [Level.REMARK] * len(words)
    for word, verdict in zip(words, verdicts, strict=True):
        assert word in verdict.sentence


class TestRunning:
    """Checks run side by side, none waits for another, none hides another."""

    @pytest.fixture
    def run(self, tmp_path, monkeypatch) -> Callable[..., list[tuple[str, Level, str]]]:
        def call(*checks: Check, patience: float = 5.0) -> list[tuple[str, Level, str]]:
            monkeypatch.setattr("analytics_pipeline.doctor.examine.CHECKS", checks)
            found = examine(installation(tmp_path), patience=patience)
            return [(one.check, one.level, one.sentence) for one in found]

        return call

    def test_a_check_that_breaks_or_hangs_leaves_the_others(self, run) -> None:
        import threading

        def breaks(_: Installation):
            raise ZeroDivisionError
            yield

        def fails(_: Installation):
            raise EnvironmentFault("it is away: check its cable")
            yield

        def hangs(_: Installation):
            yield ok("so far")
            threading.Event().wait(30)

        def well(_: Installation):
            yield ok("fine")

        found = run(Check("a", breaks), Check("b", fails), Check("c", hangs), Check("d", well), patience=0.2)
        assert [(name, level) for name, level, _ in found] == [
            ("a", Level.PROBLEM), ("b", Level.PROBLEM), ("c", Level.OK), ("c", Level.PROBLEM), ("d", Level.OK),
        ]  # fmt: skip
        assert "ZeroDivisionError" in found[0][2]
        assert found[1][2] == "it is away"
        assert found[3][2] == "no answer within 0.2 s"

    def test_what_needs_a_server_that_is_away_says_so(self, run) -> None:
        asked: list[str] = []

        def away(_: Installation):
            yield problem("Postgres cannot be reached", "look")

        def look(_: Installation):
            asked.append("looked")
            yield ok("fine")

        found = run(Check("postgres", away), Check("schema", look, (Need.POSTGRES,)))
        assert found[1] == ("schema", Level.REMARK, "not looked at, because Postgres cannot be asked")
        assert asked == []

    def test_servers_that_only_a_stack_has_are_not_asked_while_none_runs(self, tmp_path) -> None:
        stack = {"state_folder": str(tmp_path / "state")}
        ports = {name: {"port": 0} for name in ("server", "metrics", "health", "dagster")}
        zero = {f"{name}_port": 0 for name in ("kafka", "kafka_controller", "postgres", "redis")}
        found = Settings.model_validate({"local_stack": stack | zero, **ports})
        findings = list(
            examine(Installation(found, found, frozenset({"kafka", "postgres", "redis"}), False, None))
        )
        assert [one.check for one in findings if one.level is Level.PROBLEM] == []
        told = [one for one in findings if "is not running" in one.sentence]
        assert [one.check for one in told] == ["postgres", "kafka", "redis"]
        [stack_told] = [one for one in findings if one.check == "stack"]
        assert (stack_told.level, "nothing runs" in stack_told.sentence) == (Level.REMARK, True)
        assert "schema" not in {one.check for one in findings}


def test_names_of_checks_are_different_and_needs_come_before() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for number, check in enumerate(CHECKS):
        assert {need.value for need in check.needs} <= set(names[:number])


def test_a_verdict_says_what_to_do_unless_all_is_well() -> None:
    assert ok("fine") == Verdict(Level.OK, "fine", "")
