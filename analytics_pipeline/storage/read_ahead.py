"""Making the next item while the caller works on the one before.

Belongs here: the thread, and how it ends. Does not belong here: what is read, or where from.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def ahead(items: Iterable[Item], give_up: Callable[[], object] = lambda: None) -> Iterator[Iterator[Item]]:
    """The same items in their order, each made by a thread while the caller has the one before; two are in memory.

    What goes wrong in the thread is raised where its item is asked for. The thread ends with the context: left early,
    `give_up` is called, so that the item it is making comes soon or not at all.

    Args:
        items: only that thread asks for them.
        give_up: may be called while an item is being made.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        # As a list of one, so that the end is none: a thread cannot hand over StopIteration.
        coming: Future[list[Item]] = thread.submit(_next, source)

        def each() -> Iterator[Item]:
            nonlocal coming
            while found := coming.result():
                coming = thread.submit(_next, source)
                yield found.pop()

        try:
            yield each()
        finally:
            if not coming.done():
                give_up()


def _next(source: Iterator[Item]) -> list[Item]:
    return list(islice(source, 1))
