"""What every test shares: the folder makes the marker; the developer's own environment never leaks in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics_pipeline import settings as settings_module

_TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres-programs",
        default="embedded",
        help="PostgreSQL of the integration tests: 'embedded', 'system' (Debian's), or a folder of programs",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of tests/integration need the embedded services, those of tests/e2e the whole stack."""
    for item in items:
        folder = item.path.relative_to(_TESTS).parts[0]
        if folder in {"integration", "e2e"}:
            item.add_marker(getattr(pytest.mark, folder))


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
