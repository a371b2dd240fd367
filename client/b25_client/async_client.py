"""`AsyncClient`: the methods of `Client`, for asyncio.

Belongs here: the methods. Does not belong here: anything that both clients can share (`metrics`, `stored_events`, …).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack
from uuid import UUID

import httpx

from b25_client import batch, channels, dashboard, landings, metrics, stored_events, streams
from b25_client.arrow import ArrowDecoder
from b25_client.batch import BatchAnswer, BatchQuery
from b25_client.channels import Channel, EventsMessage, MetricsMessage
from b25_client.client import GIVE_UP_AFTER, TIMEOUT, Decoder
from b25_client.dashboard import Dashboard, Health
from b25_client.definition_calls import AsyncDefinitionCalls
from b25_client.errors import ApiError, ScanBudgetExceeded
from b25_client.landings import Landing, LandingWait
from b25_client.metrics import Metrics, MetricsQuery
from b25_client.operation_calls import AsyncOperationCalls
from b25_client.request import Request
from b25_client.retries import Retries
from b25_client.stored_events import (
    BytesDecoder,
    EventPagesQuery,
    EventsDecoder,
    EventsFilter,
    EventsPage,
    EventsQuery,
    EventStatistics,
    Format,
    StatisticsQuery,
    StoredEvent,
)
from b25_client.streams import OnNotice, Stream
from b25_client.transport import AsyncTransport, http_options

if TYPE_CHECKING:
    import pyarrow as pa

M = TypeVar("M")


class AsyncClient(AsyncDefinitionCalls, AsyncOperationCalls):
    """`Client` for asyncio: the same arguments, answers and errors; what iterates there iterates with `async for` here.

    Whoever leaves a loop over a stream or an export early closes it with `contextlib.aclosing`, which frees its
    connection at once.

    Raises:
        ValueError: `url`, `api_key` or `timeout` cannot be right.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = 3,
        longest_wait: float = 30.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        options = http_options(url, api_key=api_key, timeout=timeout, headers=headers)
        self._transport = AsyncTransport(
            httpx.AsyncClient(**options, transport=transport), Retries(max(0, retries), longest_wait)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._transport.http.base_url)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect."""
        await self._transport.http.aclose()

    async def metrics(self, metric_name: str, **asked: Unpack[MetricsQuery]) -> Metrics:
        """As `Client.metrics`."""
        return await self._transport.send(metrics.metrics_request(metric_name, asked))

    async def several_metrics(
        self, metric_names: Sequence[str], **asked: Unpack[MetricsQuery]
    ) -> tuple[Metrics, ...]:
        """As `Client.several_metrics`."""
        return await self._transport.send(metrics.several_request(metric_names, asked))

    async def metric_pages(self, metric_name: str, **asked: Unpack[MetricsQuery]) -> AsyncGenerator[Metrics]:
        """As `Client.metric_pages`."""
        request: Request[Metrics] | None = metrics.metrics_request(metric_name, asked)
        while request is not None:
            page = await self._transport.send(request)
            yield page
            request = metrics.request_behind(page, asked)

    async def dashboard(self, *, after: str | None = None) -> Dashboard:
        """As `Client.dashboard`."""
        return await self._transport.send(dashboard.dashboard_request(after))

    async def dashboard_query(
        self, queries: Sequence[BatchQuery], *, after: str | None = None
    ) -> tuple[BatchAnswer, ...]:
        """As `Client.dashboard_query`."""
        return await self._transport.send(batch.batch_request(queries, after))

    async def health(self) -> Health:
        """As `Client.health`."""
        return await self._transport.send(dashboard.health_request())

    async def events_page(self, **asked: Unpack[EventPagesQuery]) -> EventsPage:
        """As `Client.events_page`."""
        return await self._transport.send(stored_events.page_request(asked))

    async def event_pages(
        self, *, is_back: bool = False, **asked: Unpack[EventPagesQuery]
    ) -> AsyncGenerator[EventsPage]:
        """As `Client.event_pages`."""
        request: Request[EventsPage] | None = stored_events.page_request(asked)
        while request is not None:
            try:
                page = await self._transport.send(request)
            except ScanBudgetExceeded as nothing:
                request = stored_events.request_behind(nothing, asked, is_back=is_back)
            else:
                yield page
                request = stored_events.request_behind(page, asked, is_back=is_back)

    async def events(self, **asked: Unpack[EventPagesQuery]) -> AsyncGenerator[StoredEvent]:
        """As `Client.events`."""
        async with aclosing(self.event_pages(**asked)) as pages:
            async for page in pages:
                for event in page.events:
                    yield event

    def export_events(self, **asked: Unpack[EventsQuery]) -> AsyncGenerator[StoredEvent]:
        """As `Client.export_events`."""
        return self._export(asked, "ndjson", EventsDecoder())

    def export_batches(self, **asked: Unpack[EventsQuery]) -> "AsyncGenerator[pa.RecordBatch]":
        """As `Client.export_batches`."""
        return self._export(asked, "arrow", ArrowDecoder())

    def export_bytes(self, format: Format, **asked: Unpack[EventsQuery]) -> AsyncGenerator[bytes]:
        """As `Client.export_bytes`."""
        return self._export(asked, format, BytesDecoder())

    async def event_statistics(self, **asked: Unpack[StatisticsQuery]) -> EventStatistics:
        """As `Client.event_statistics`."""
        return await self._transport.send(stored_events.statistics_request(asked))

    async def event(
        self, id: UUID | str, *, timestamp: datetime | str | None = None, after: str | None = None
    ) -> StoredEvent:
        """As `Client.event`."""
        return await self._transport.send(stored_events.event_request(id, timestamp, after))

    async def landing(self, landing: str, *, wait: int = 0) -> Landing:
        """As `Client.landing`."""
        return await self._transport.send(landings.landing_request(landing, wait))

    async def wait_for_landing(self, landing: str, *, timeout: float = TIMEOUT) -> Landing:  # noqa: ASYNC109  (the service waits)
        """As `Client.wait_for_landing`."""
        waiting = LandingWait(landing, timeout, time.monotonic)
        while not (found := await self._transport.send(waiting.request())).has_landed:
            pass
        return found

    def stream_dashboard(
        self, *, on_notice: OnNotice | None = None, give_up_after: float | None = GIVE_UP_AFTER
    ) -> AsyncGenerator[Dashboard]:
        """As `Client.stream_dashboard`."""
        return self._listen(channels.dashboard_channel(), "", on_notice, give_up_after)

    def stream_metrics(
        self,
        *metric_names: str,
        on_notice: OnNotice | None = None,
        give_up_after: float | None = GIVE_UP_AFTER,
        **asked: Unpack[MetricsQuery],
    ) -> AsyncGenerator[MetricsMessage]:
        """As `Client.stream_metrics`."""
        return self._listen(channels.metrics_channel(metric_names, asked), "", on_notice, give_up_after)

    def stream_events(
        self,
        *,
        last_event_id: str = "",
        on_notice: OnNotice | None = None,
        give_up_after: float | None = GIVE_UP_AFTER,
        **asked: Unpack[EventsFilter],
    ) -> AsyncGenerator[EventsMessage]:
        """As `Client.stream_events`."""
        return self._listen(channels.events_channel(asked), last_event_id, on_notice, give_up_after)

    def _export(self, asked: Mapping[str, Any], form: Format, decoder: Decoder[M]) -> AsyncGenerator[M]:
        request = stored_events.export_request(asked, form)

        async def pieces() -> AsyncGenerator[M]:
            async with aclosing(self._transport.chunks(request)) as chunks:
                async for chunk in chunks:
                    for whole in decoder.feed(chunk):
                        yield whole
            for whole in decoder.end():
                yield whole

        return pieces()

    async def _listen(
        self, channel: Channel[M], last_id: str, on_notice: OnNotice | None, give_up_after: float | None
    ) -> AsyncGenerator[M]:
        stream = Stream(channel, last_event_id=last_id, on_notice=on_notice, give_up_after=give_up_after)
        while True:
            failure: ApiError | httpx.RequestError | None = None
            try:
                async with self._transport.open(stream.request(), silence=streams.SILENCE) as response:
                    stream.connected()
                    async with aclosing(streams.event_source(response).aiter_sse()) as source:
                        async for told in source:
                            stream.read()
                            if (message := stream.take(told)) is not None:
                                yield message
                            stream.reading()
            except (ApiError, httpx.RequestError) as error:
                failure = error
            await asyncio.sleep(stream.lost(failure))
