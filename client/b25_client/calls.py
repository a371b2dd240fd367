"""What the groups of methods of both clients stand on: a transport, and following the pages of a list.

Belongs here: that alone. Does not belong here: the methods (`client`, `definition_calls`, `operation_calls`).
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TypeVar

from b25_client.request import Page, Request
from b25_client.transport import AsyncTransport, Transport

T = TypeVar("T")
PageRequest = Callable[[str | None], Request[Page[T]]]
"""Makes the request of the page that a cursor leads to; None: the first."""


class Calls:
    """Of `Client`."""

    _transport: Transport

    def _follow(self, request: PageRequest[T]) -> Iterator[T]:
        cursor: str | None = None
        while True:
            page = self._transport.send(request(cursor))
            yield from page.items
            if (cursor := page.next_cursor) is None:
                return


class AsyncCalls:
    """Of `AsyncClient`."""

    _transport: AsyncTransport

    async def _follow(self, request: PageRequest[T]) -> AsyncGenerator[T]:
        cursor: str | None = None
        while True:
            page = await self._transport.send(request(cursor))
            for item in page.items:
                yield item
            if (cursor := page.next_cursor) is None:
                return
