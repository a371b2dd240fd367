"""How far long work is: on a terminal alone, on stderr, and gone when it is done.

Belongs here: spinners and counts. Does not belong here: the bar of backfills, which knows its end (`backfill`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

Tell = Callable[[str], None]


@contextmanager
def working(words: str) -> Iterator[Tell]:
    """Show what is being done until it is done; what is yielded replaces the words. Off a terminal: nothing."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _words: None
        return
    with Status(words, console=console) as shown:
        yield lambda newer: shown.update(newer)
