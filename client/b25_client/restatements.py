"""Totals of buckets that changed after they were final: a list, and a feed to follow.

Belongs here: requests and answers of `/api/v1/restatements`, and where a feed goes on. Does not belong here: waiting
between two looks (the clients).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict

from b25_client.request import Answer, Page, Request, read_record, write_parameters

PATH = "/api/v1/restatements"


class RestatementsQuery(TypedDict, total=False):
    """Keyword arguments that choose changes; see docs/operations-over-rest.md.

    `start_time` and `end_time` are about the start of the buckets, `since` about when they changed. `limit` is the size
    of a page.
    """

    metric_name: str
    interval: str
    reason: Literal["late", "backfill"]
    start_time: datetime | str
    end_time: datetime | str
    since: datetime | str
    limit: int


class _Paged(RestatementsQuery, total=False):
    cursor: str


@dataclass(frozen=True, slots=True)
class BucketTotal:
    """A total of a bucket; None for what the metric does not keep."""

    count: int
    sum: float | None
    min: float | None
    max: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    distinct_count: int | None


@dataclass(frozen=True, slots=True)
class Restatement:
    """One total of one bucket that was final, before and after a change.

    Attributes:
        run_id: of the merge or backfill that changed it.
        time_bucket: start of the bucket.
        revision: that this change gave the bucket; points of metrics show it.
        old: None where there was no such total.
        new: None where there is none any more.
    """

    id: int
    restated_at: datetime
    reason: Literal["late", "backfill"]
    run_id: str
    interval: str
    time_bucket: datetime
    revision: int
    metric_id: str
    metric_name: str
    old: BucketTotal | None
    new: BucketTotal | None


@dataclass(frozen=True, slots=True)
class RestatementsPage:
    """Restatements, newest first.

    Attributes:
        next_cursor: leads to older ones; None where there are none.
        previous_cursor: leads to newer ones, also to those that come later.
    """

    restatements: tuple[Restatement, ...]
    next_cursor: str | None
    previous_cursor: str


class Feed:
    """Where a feed of changes is: each is told once, oldest first."""

    def __init__(self, asked: Mapping[str, Any], cursor: str | None) -> None:
        """Take the question, and `previous_cursor` of the page to go on from; None: from now on.

        Raises:
            TypeError, ValueError: an argument is not known, or cannot be written.
        """
        self._asked, self._cursor = dict(asked), cursor
        page_request(self._asked, cursor)

    def request(self) -> Request[RestatementsPage]:
        """The next request."""
        if self._cursor is None:  # the top of the list says where what comes later begins
            return page_request({**self._asked, "limit": 1}, None)
        return page_request(self._asked, self._cursor)

    def take(self, page: RestatementsPage) -> RestatementsPage | None:
        """Turn an answer into what is told, oldest first; None if it is nothing new."""
        is_beginning = self._cursor is None
        self._cursor = page.previous_cursor
        if is_beginning or not page.restatements:
            return None
        return RestatementsPage(page.restatements[::-1], page.next_cursor, page.previous_cursor)


def page_request(asked: Mapping[str, Any], cursor: str | None) -> Request[RestatementsPage]:
    """Ask for a page.

    Raises:
        TypeError, ValueError: an argument is not known, or cannot be written.
    """
    write_parameters(asked, RestatementsQuery)
    return Request(PATH, _read, write_parameters({**asked, "cursor": cursor}, _Paged))


def list_request(asked: Mapping[str, Any], cursor: str | None) -> Request[Page[Restatement]]:
    """The same, for whoever wants one after the other."""
    request = page_request(asked, cursor)

    def read(answer: Answer) -> Page[Restatement]:
        page = request.read(answer)
        return Page(page.restatements, page.next_cursor)

    return Request(request.path, read, request.parameters)


def _read(answer: Answer) -> RestatementsPage:
    content = answer.json()
    found = tuple(
        read_record(Restatement, one, old=_total(one["old"]), new=_total(one["new"]))
        for one in content["restatements"]
    )
    return RestatementsPage(found, content.get("next_cursor"), content["previous_cursor"])


def _total(content: Mapping[str, Any] | None) -> BucketTotal | None:
    return None if content is None else read_record(BucketTotal, content)
