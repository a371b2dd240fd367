"""One whole stack for all end-to-end tests, gone before others run: idle, it takes a quarter of a core."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.local import ROOT, Pipe, Stack

_LEFT_OUT = shutil.ignore_patterns(
    *(
        ".git",
        ".venv",
        ".analytics*",
        ".*cache",
        ".hypothesis",
        "__pycache__",
        "target",
        "logs",
        "dist",
        "htmlcov",
        "site",
    )
)


@pytest.fixture(scope="package")
def folder() -> Iterator[Path]:
    """Where everything of these tests stands; a short path, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="b25-e2e-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def checkout(folder: Path) -> Path:
    """A copy of this checkout, installed as `make` does it, so that a test can edit its source as a person would."""
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
    (copy / ".venv").mkdir()
    # A python that is called through a link looks for the rest beside the link.
    for part in ("bin", "lib", "pyvenv.cfg"):
        (copy / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    for made in (".made", ".local", ".dev"):  # in this order: make installs what is older than what it needs
        (copy / ".venv" / made).touch()
    return copy


@pytest.fixture(scope="package")
def stack(folder: Path, checkout: Path) -> Iterator[Stack]:
    """Started in the foreground, without the simulator; stopped at the end."""
    stack = Stack(folder / "state", checkout)
    try:
        stack.begin()
        yield stack
    finally:
        stack.run("down")
        if stack.foreground is not None:
            stack.foreground.wait(60)


@pytest.fixture
def pipe(stack: Stack) -> Iterator[Pipe]:
    """Its two ends."""
    pipe = Pipe(stack)
    yield pipe
    pipe.api.close()
