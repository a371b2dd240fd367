"""Streams whose client has to keep up: one that accepts nothing for a while is left.

Belongs here: that limit. Does not belong here: what is streamed.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import cast

import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

_log = structlog.get_logger()


class PatientResponse(StreamingResponse):
    """Breaks the connection off when one piece is not accepted within `patience` seconds (`server.write_timeout`)."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        *,
        media_type: str,
        patience: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take the pieces and their content type."""
        super().__init__(content, media_type=media_type, headers=headers)
        self._patience = patience

    async def stream_response(self, send: Send) -> None:
        """Send everything, or raise TimeoutError."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._patience):
                await send(message)

        content = cast("AsyncGenerator[bytes]", self.body_iterator)
        try:
            async with aclosing(content):  # now, not when it is collected: it holds its client's place
                await super().stream_response(send_in_time)
        except TimeoutError:
            _log.warning("slow_stream_dropped", seconds=self._patience)
            raise


async def primed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, the first of them made: what goes wrong with it is still answered as an error."""
    first = await anext(pieces, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return all_of_them()
