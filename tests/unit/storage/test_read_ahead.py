"""What is read ahead: in order, never more than two in memory, and no thread stays behind."""

import threading
from collections.abc import Iterator

import pytest

from analytics_pipeline.storage.read_ahead import ahead

LIMIT = 10.0


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_items_come_in_order_and_end():
    with ahead(range(50)) as items:
        assert list(items) == list(range(50))
    assert threads() == []


def test_an_item_is_made_while_the_caller_has_the_one_before():
    second_is_made = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        second_is_made.set()
        yield 2

    with ahead(source()) as items:
        assert next(items) == 1
        assert second_is_made.wait(LIMIT)
        assert list(items) == [2]


def test_no_more_than_two_are_in_memory():
    made: list[int] = []
    with ahead(made.append(number) or number for number in range(9)) as items:
        for taken, item in enumerate(items):
            assert item == taken
            assert len(made) <= taken + 2


def test_what_goes_wrong_is_raised_where_its_item_is_asked_for():
    def source() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with ahead(source()) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="gone"):
            next(items)
    assert threads() == []


def test_left_early_the_item_in_the_making_is_given_up_and_no_thread_stays():
    given_up, started = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 1
        started.set()
        assert given_up.wait(LIMIT)
        yield 2

    def leave() -> None:
        with ahead(source(), given_up.set) as items:
            assert next(items) == 1
            assert started.wait(LIMIT)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert given_up.is_set()
    assert threads() == []
