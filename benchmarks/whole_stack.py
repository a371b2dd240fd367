"""A whole stack of a benchmark's own, as `make up` starts it, with free ports and in a folder that goes away.

Belongs here: starting and stopping it. Does not belong here: single servers (`servers`), what is measured.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.books import Refused
from tests.e2e.local import Stack


@contextmanager
def whole_stack(*flags: str, **variables: str) -> Iterator[Stack]:
    """It runs as long as the context lasts; `flags` of `analytics up`, and settings as variables.

    Raises:
        Refused: it did not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="b25-bench-", dir="/tmp"))
    stack = Stack(folder / "state", **variables)
    try:
        done = stack.run("up", "--detach", *flags)
        if done.returncode:
            raise Refused(f"the stack did not start: {(done.stdout + done.stderr).strip()[-300:]}")
        yield stack
    finally:
        stack.run("down")
        shutil.rmtree(folder, ignore_errors=True)
