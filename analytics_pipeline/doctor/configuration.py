"""Checks of the configuration: what it says that is slow, open to everybody, or without effect.

Belongs here: judging settings. Does not belong here: validating them (`settings`), servers.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.doctor.findings import Verdict, ok, problem, remark
from analytics_pipeline.doctor.installation import DEFAULT_FILE, Installation
from analytics_pipeline.settings import LOOPBACK, Section

_SLOWEST_BATCH = timedelta(seconds=1)
_SMALLEST_BATCH = 5_000
_WITHOUT_EFFECT = (
    "database.max_idle_connections",
    "analytics.aggregation.enabled",
    "analytics.aggregation.workers",
    "analytics.aggregation.batch_size",
    "realtime.websocket_port",
)
"""Keys of the original's files that are read and then not used."""
_SECRETS = ("password", "url", "sasl.password", "ssl.key.password", "sasl.oauthbearer.client.secret")
_OTHERS = 0o077


def refused(problems: tuple[str, ...]) -> Iterator[Verdict]:
    """Settings that cannot be used, one by one."""
    for sentence in problems:
        yield problem(sentence, "mend this key; docs/configuration.md lists all of them")


def valid(found: Installation) -> Iterator[Verdict]:
    """What the settings come from, and keys without effect."""
    if found.config is not None:
        yield ok(f"{found.config} is valid")
    else:
        yield ok(f"there is no {DEFAULT_FILE}: defaults and environment variables")
    idle = [key for key in _WITHOUT_EFFECT if is_set(found.written, key)]
    if idle:
        yield remark(f"{', '.join(idle)}: accepted, and without effect", "leave it out")


def is_set(section: Section, key: str) -> bool:
    """Whether a file or a variable says something other than the default."""
    first, _, rest = key.partition(".")
    if first not in section.model_fields_set:
        return False
    below = getattr(section, first)
    return is_set(below, rest) if rest else below != type(section).model_fields[first].default


def speed(found: Installation) -> Iterator[Verdict]:
    """The original service's values, which are honoured and slow."""
    slow = list(_slow(found))
    yield from slow or [ok("batches are as large and as quick as they should be")]


def _slow(found: Installation) -> Iterator[Verdict]:
    ingestion = found.written.analytics.ingestion
    where = "analytics.ingestion"
    if ingestion.batch_timeout >= _SLOWEST_BATCH:
        seconds = ingestion.batch_timeout.total_seconds()
        yield remark(
            f"{where}.batch_timeout lets an event wait for up to {seconds:g} s before it can be seen",
            "leave it out: 200ms costs nothing",
        )
    if ingestion.batch_size < _SMALLEST_BATCH:
        yield remark(
            f"{where}.batch_size allows only {ingestion.batch_size:,} rows a transaction, which makes landing slow",
            "leave it out: 20000",
        )
    if ingestion.buffer_size < ingestion.batch_size * ingestion.workers:
        yield remark(
            f"{where}.buffer_size holds less than a batch of each of the {ingestion.workers} landing connections",
            f"leave it out, or set at least {ingestion.batch_size * ingestion.workers}",
        )


def exposure(found: Installation) -> Iterator[Verdict]:
    """Who may read and write without a key."""
    settings = found.written
    security, host = settings.security, settings.server.host
    if settings.dagster.host not in LOOPBACK:
        yield remark(
            f"dagster.host: Dagster's page listens on {settings.dagster.host} and has no login",
            "use 127.0.0.1, or put a proxy with a login before it",
        )
    if settings.metrics.enabled and settings.metrics.host not in LOOPBACK:
        yield remark(
            f"metrics.host: Prometheus' series are told to whoever reaches {settings.metrics.host}:"
            f"{settings.metrics.port}, names of topics, event types and metrics among them",
            "use 127.0.0.1, or let only Prometheus reach it",
        )
    if host in LOOPBACK:
        yield ok("the API listens on this machine alone")
        return
    if not security.api_key_enabled:
        yield remark(
            f"security.api_key_enabled is off: whoever reaches {host}:{settings.server.port} may read and write",
            "set security.api_key_enabled: true and make a key with `analytics keys create`",
        )
        return
    yield ok(f"the API listens on {host} and asks for keys")
    if not security.rate_limit.enabled:
        yield remark(
            "security.rate_limit.enabled is off: one client can take all of the API", "leave it out: true"
        )


def secrets(found: Installation) -> Iterator[Verdict]:
    """Files with passwords that others may read."""
    bad = list(_open_files(found))
    yield from bad or [ok("no file with a password can be read by others")]


def _open_files(found: Installation) -> Iterator[Verdict]:
    files = {
        "database.password_file": found.written.database.password_file,
        "redis.password_file": found.written.redis.password_file,
    }
    for key, path in files.items():
        if path is None:
            continue
        if not path.is_file():
            yield problem(f"{key}: {path} is not there", "make it, or leave the key out")
        elif (verdict := _readable(path, f"{key}: {path}")) is not None:
            yield verdict
    config = found.config if found.config is not None and holds_secret(found.config) else None
    if config and (verdict := _readable(config, f"{config} has a password in it and")) is not None:
        yield verdict


def holds_secret(path: Path) -> bool:
    """Whether a configuration file has a password in it."""
    try:
        return _has_secret(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False


def _has_secret(content: object) -> bool:
    if not isinstance(content, Mapping):
        return False
    return any(
        _has_secret(value) if isinstance(value, Mapping) else str(key) in _SECRETS and _is_secret(key, value)
        for key, value in content.items()
    )


def _is_secret(key: object, value: Any) -> bool:
    if key != "url":
        return bool(value)
    try:
        return bool(conninfo_to_dict(str(value or "")).get("password"))
    except ProgrammingError:
        return False


def _readable(path: Path, words: str) -> Verdict | None:
    if not path.stat().st_mode & _OTHERS:
        return None
    return problem(f"{words} can be read by others", f"chmod 600 {path}")
