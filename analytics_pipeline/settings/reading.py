"""Where settings come from: the file, the environment, the defaults."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.original_names import with_our_names
from analytics_pipeline.settings import unknown
from analytics_pipeline.settings.local import LocalStack
from analytics_pipeline.settings.whole import Settings

ORIGINAL_VARIABLES = {
    "SERVER_PORT": ("server", "port"),
    "DB_HOST": ("database", "host"),
    "DB_PORT": ("database", "port"),
    "DB_NAME": ("database", "database"),
    "DB_USER": ("database", "user"),
    "DB_PASSWORD": ("database", "password"),
    "REDIS_HOST": ("redis", "host"),
    "REDIS_PORT": ("redis", "port"),
    "KAFKA_BROKERS": ("kafka", "brokers"),
    "LOG_LEVEL": ("logging", "level"),
}
"""Environment variables of the original service and the key each one sets."""
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of prometheus_client: where the processes of one machine put their series, if they do."""
_DEFAULT_FILE = Path("config.yaml")
PREFIX = "B25_"
"""What the name of each of our own environment variables begins with."""


def environment() -> dict[str, str]:
    """A copy of the process environment, for starting child processes: the one other reader of it."""
    return dict(os.environ)  # noqa: TID251


def adopt(variables: Mapping[str, str]) -> None:
    """Put `variables` into the environment of this process and its children, and forget what was read before.

    For `analytics`, before any other module has asked for settings.
    """
    os.environ.update(variables)  # noqa: TID251
    settings.cache_clear()


def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"the configuration file {path} does not exist; check B25_CONFIG or --config"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        where = getattr(error, "problem_mark", None)
        at = f", line {where.line + 1}" if where is not None else ""
        raise ConfigurationError(f"the configuration file {path}{at} cannot be read as YAML") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"the configuration file {path} must be a mapping of sections")
    return content


def config_file() -> Path | None:
    """The file that `B25_CONFIG` or `--config` names; None: config.yaml in the working directory, if it is there."""
    named = environment().get("B25_CONFIG")
    return Path(named) if named else None


def used_file() -> Path | None:
    """The file that is read, as it was named; None where there is none to read."""
    return config_file() or (_DEFAULT_FILE if _DEFAULT_FILE.exists() else None)


def state_folder() -> tuple[Path, tuple[str, ...]]:
    """The state folder of `analytics up`, also where settings have mistakes; and these, one sentence each.

    For commands that need no other setting. Of a file that is no YAML nothing is known, so that the default is meant.

    Raises:
        ConfigurationError: the configuration file that was named does not exist.
    """
    try:
        return settings().local_stack.state_folder, ()
    except ConfigurationError as error:
        file, problems = used_file(), error.problems
        if file is not None and not file.exists():
            raise
    named: object = environment().get(f"{PREFIX}LOCAL_STACK__STATE_FOLDER")
    if not named:
        with suppress(ConfigurationError):
            section = _read_file(file).get("local_stack")
            named = section.get("state_folder") if isinstance(section, dict) else None
    is_given = isinstance(named, str) and bool(named)
    return Path(str(named)) if is_given else LocalStack().state_folder, problems


def load_settings(path: Path | None = None) -> Settings:
    """Read file and environment.

    Raises:
        ConfigurationError: every problem at once, one sentence per key; values are never repeated,
            because any of them could be a secret.
    """
    path = path or used_file()
    content = with_our_names(_read_file(path))
    in_file = {} if path is None else dict.fromkeys(_keys(content), str(path))
    origins: dict[unknown.Key, str] = {}
    variables = environment()
    for variable, key in ORIGINAL_VARIABLES.items():
        if variables.get(variable):
            _set(content, key, variables[variable])
            origins[key] = variable
    for variable, text in variables.items():
        if variable.startswith(PREFIX) and variable != "B25_CONFIG":
            place = tuple(variable.removeprefix(PREFIX).lower().split("__"))
            _set(content, place, text)
            origins |= {place[:depth]: variable for depth in range(1, len(place) + 1)}
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(*_sentences(error, origins | in_file)) from None


def _set(content: dict[str, Any], key: tuple[str, ...], text: str) -> None:
    """Put `text` at the nested `key`; a section that is not a mapping is left for validation to report."""
    for part in key[:-1]:
        below = content.setdefault(part, {})
        if not isinstance(below, dict):
            return
        content = below
    content[key[-1]] = text


def _keys(content: Mapping[str, Any], above: unknown.Key = ()) -> Iterator[unknown.Key]:
    for name, value in content.items():
        yield (*above, str(name))
        if isinstance(value, dict):
            yield from _keys(value, (*above, str(name)))


def _sentences(error: ValidationError, origins: Mapping[unknown.Key, str]) -> list[str]:
    """One for each problem; `origins`: the file or variable of each key."""
    found = []
    for item in error.errors(include_input=False, include_url=False):
        if item["type"] == "extra_forbidden":
            place = tuple(str(part) for part in item["loc"])
            found.append(unknown.sentence(place, origins.get(place, ""), Settings))
            continue
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        found.append(f"{key}: {message}" if key else message)
    return found


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


def project_file(name: str) -> Path:
    """A file or folder that ships with the product (`sql/migrations`, `dbt_models`, `dagster.yaml`).

    In a checkout it stands beside the packages, in an installed wheel inside `analytics_pipeline`.
    """
    here = Path(__file__).resolve().parents[1]
    beside = here.parent / name
    return beside if beside.exists() else here / "_project" / name
