"""One whole stack for all end-to-end tests of a session."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.local import Pipe, Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Started in the background, without the simulator; stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="b25-e2e-", dir="/tmp"))
    stack = Stack(folder / "state")
    try:
        stack.up()
        yield stack
    finally:
        stack.run("down")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pipe(stack: Stack) -> Iterator[Pipe]:
    """Its two ends."""
    pipe = Pipe(stack)
    yield pipe
    pipe.api.close()
