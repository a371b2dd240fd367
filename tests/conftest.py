"""What every test shares: the folder makes the marker; the developer's own environment never leaks in."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadScopeScheduling

from analytics_pipeline import settings as settings_module

_TESTS = Path(__file__).parent
_SELDOM = ("slow", "long")
"""Marks of what most runs leave out."""

# A busy machine is no defect: what a test may take is the business of pytest-timeout.
hypothesis_settings.register_profile("suite", deadline=None)
hypothesis_settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres-programs",
        default="embedded",
        help="PostgreSQL of the integration tests: 'embedded', 'system' (Debian's), or a folder of programs",
    )
    parser.addoption("--requests-seed", type=int, help="generate the requests to the API from this seed")
    parser.addoption("--questions-seed", type=int, help="ask these questions of metrics alone")
    parser.addoption(
        "--oracle-seed", type=int, help="run the oracle test with this seed alone, and shrink what it finds"
    )


def pytest_configure() -> None:
    """Heed SIGINT also where a shell's `&` lets it be ignored.

    Dagster treats SIGTERM as SIGINT: it would be ignored as well from there on, by every child process too, and each
    of those would be waited for in vain.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The folder makes the marker; pyproject.toml says what each means. What takes long only when `-m` is about it."""
    for item in items:
        folder = item.path.relative_to(_TESTS).parts[0]
        if folder in {"integration", "e2e", "chaos", "browser"}:
            item.add_marker(getattr(pytest.mark, folder))
    if any(name in config.option.markexpr for name in _SELDOM):
        return
    kept, dropped = [], []
    for item in items:
        (dropped if any(mark.name in _SELDOM for mark in item.iter_markers()) else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


class ByServers(LoadScopeScheduling):  # type: ignore[misc]
    """With `-n 2`: a file stays in one process, and so do all of e2e, of chaos and of browser, which share servers."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.split("/")[1]
        return folder if folder in {"e2e", "chaos", "browser"} else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    return ByServers(config, log)


@pytest.fixture(autouse=True)
def clean_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Defaults only: no B25_… or original variables, no config.yaml of the checkout."""
    for name in settings_module.environment():
        if name.startswith("B25_") or name in settings_module.ORIGINAL_VARIABLES:
            monkeypatch.delenv(name)
    empty = tmp_path_factory.getbasetemp() / "no-settings.yaml"
    empty.touch()
    monkeypatch.setenv("B25_CONFIG", str(empty))
    settings_module.settings.cache_clear()
    yield
    settings_module.settings.cache_clear()
