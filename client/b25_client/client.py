"""`Client`: questions to the service, and calls that wait for the answer.

Belongs here: the methods, but for those about definitions and operations (`definition_calls`, `operation_calls`). Does
not belong here: what is asked and answered (`metrics`, `stored_events`, …), sending (`transport`). `async_client` has
the same for asyncio; both are thin, so that nothing is written twice.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, Unpack
from uuid import UUID

import httpx

from b25_client import batch, channels, dashboard, landings, metrics, stored_events, streams
from b25_client.arrow import ArrowDecoder
from b25_client.batch import BatchAnswer, BatchQuery
from b25_client.channels import Channel, EventsMessage, MetricsMessage
from b25_client.dashboard import Dashboard, Health
from b25_client.definition_calls import DefinitionCalls
from b25_client.errors import ApiError, ScanBudgetExceeded
from b25_client.landings import Landing, LandingWait
from b25_client.metrics import Metrics, MetricsQuery
from b25_client.operation_calls import OperationCalls
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
from b25_client.transport import Transport, http_options

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T", covariant=True)
M = TypeVar("M")

TIMEOUT = 30.0
"""Seconds until an answer, or the next piece of one, is given up."""
GIVE_UP_AFTER = 300.0
"""Seconds without a connection after which a stream is given up."""


class Decoder(Protocol[T]):
    """Makes something of the pieces of a stream."""

    def feed(self, piece: bytes) -> Iterator[T]:
        """What is whole now."""

    def end(self) -> Iterator[T]:
        """What is left; StreamBroken if the stream is not whole."""


class Client(DefinitionCalls, OperationCalls):
    """Asks the service for metrics, events and dashboards; all methods may be called from any thread.

    Every method may raise what `b25_client.errors` draws under `ApiError`, and `Unreachable` and `UnexpectedAnswer`.
    An unknown argument is a TypeError, a time without a zone a ValueError, before anything is sent.

    Args:
        url: of the service, such as `http://localhost:9097`.
        api_key: of the service, where it asks for one; else the environment variable ANALYTICS_API_KEY.
        timeout: seconds until an answer, or the next piece of one, is given up.
        retries: how often reads are asked again after lost connections, 429, 502, 503 and 504; writes never are.
        longest_wait: seconds; if the service asks to wait longer, the error is raised at once.
        headers: of every request, for a proxy on the way for example.
        transport: an httpx transport instead of the network's usual one.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        options = http_options(url, api_key=api_key, timeout=timeout, headers=headers)
        self._transport = Transport(
            httpx.Client(**options, transport=transport), Retries(max(0, retries), longest_wait)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._transport.http.base_url)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._transport.http.close()

    def metrics(self, metric_name: str, **asked: Unpack[MetricsQuery]) -> Metrics:
        """A metric over time; `.to_arrow()` makes a table of it."""
        return self._transport.send(metrics.metrics_request(metric_name, asked))

    def several_metrics(
        self, metric_names: Sequence[str], **asked: Unpack[MetricsQuery]
    ) -> tuple[Metrics, ...]:
        """Several metrics of one moment, in the order asked for, at most 20."""
        return self._transport.send(metrics.several_request(metric_names, asked))

    def metric_pages(self, metric_name: str, **asked: Unpack[MetricsQuery]) -> Iterator[Metrics]:
        """Page after page of `limit` points, from `cursor` on."""
        request: Request[Metrics] | None = metrics.metrics_request(metric_name, asked)
        while request is not None:
            page = self._transport.send(request)
            yield page
            request = metrics.request_behind(page, asked)

    def dashboard(self, *, after: str | None = None) -> Dashboard:
        """The live numbers; with `after`, a landing token of posted events, as soon as these have landed."""
        return self._transport.send(dashboard.dashboard_request(after))

    def dashboard_query(
        self, queries: Sequence[BatchQuery], *, after: str | None = None
    ) -> tuple[BatchAnswer, ...]:
        """Metrics and tiles of one moment, at most 50 queries; one that is refused does not fail the rest."""
        return self._transport.send(batch.batch_request(queries, after))

    def health(self) -> Health:
        """Whether the service is well; that it is not is an answer, not an error."""
        return self._transport.send(dashboard.health_request())

    def events_page(self, **asked: Unpack[EventPagesQuery]) -> EventsPage:
        """One page of stored events, newest first unless `order` says otherwise.

        Raises:
            ScanBudgetExceeded: no index leads to such events, and the search found none within its budget.
        """
        return self._transport.send(stored_events.page_request(asked))

    def event_pages(self, *, is_back: bool = False, **asked: Unpack[EventPagesQuery]) -> Iterator[EventsPage]:
        """Page after page, from `cursor` on; with `is_back`, towards the pages before.

        Neither skips nor repeats an event while others arrive. A search that finds nothing within its budget goes on.
        """
        request: Request[EventsPage] | None = stored_events.page_request(asked)
        while request is not None:
            try:
                page = self._transport.send(request)
            except ScanBudgetExceeded as nothing:
                request = stored_events.request_behind(nothing, asked, is_back=is_back)
            else:
                yield page
                request = stored_events.request_behind(page, asked, is_back=is_back)

    def events(self, **asked: Unpack[EventPagesQuery]) -> Iterator[StoredEvent]:
        """All events that fit, page by page; `limit` is the size of a page."""
        for page in self.event_pages(**asked):
            yield from page.events

    def export_events(self, **asked: Unpack[EventsQuery]) -> Iterator[StoredEvent]:
        """All events that fit, by one request, in constant memory.

        Raises:
            StreamBroken: it broke off; what came is not all.
        """
        return self._export(asked, "ndjson", EventsDecoder())

    def export_batches(self, **asked: Unpack[EventsQuery]) -> "Iterator[pa.RecordBatch]":
        """The same as record batches of Arrow: times as timestamps, everything else as text.

        Raises:
            MissingLibrary: pyarrow is not installed.
            StreamBroken: it broke off; what came is not all.
        """
        return self._export(asked, "arrow", ArrowDecoder())

    def export_bytes(self, format: Format, **asked: Unpack[EventsQuery]) -> Iterator[bytes]:
        """The same as it is sent, ndjson, csv or arrow (an IPC stream), to be written to a file.

        Raises:
            StreamBroken: it broke off; what came is not all.
        """
        return self._export(asked, format, BytesDecoder())

    def event_statistics(self, **asked: Unpack[StatisticsQuery]) -> EventStatistics:
        """How many events of each type there are in a range, with `interval` per bucket, too."""
        return self._transport.send(stored_events.statistics_request(asked))

    def event(
        self, id: UUID | str, *, timestamp: datetime | str | None = None, after: str | None = None
    ) -> StoredEvent:
        """One event; an id that is no UUIDv7 needs its own timestamp. `after`: as soon as that has landed.

        Raises:
            NotFound: there is none of this id, or the key does not see it.
        """
        return self._transport.send(stored_events.event_request(id, timestamp, after))

    def landing(self, landing: str, *, wait: int = 0) -> Landing:
        """What became of the events of a landing token; the service waits `wait` seconds for it, at most 30."""
        return self._transport.send(landings.landing_request(landing, wait))

    def wait_for_landing(self, landing: str, *, timeout: float = TIMEOUT) -> Landing:
        """Wait until the events of a landing token have landed: every read sees them then.

        Raises:
            NotLanded: they had not within `timeout` seconds.
        """
        waiting = LandingWait(landing, timeout, time.monotonic)
        while not (found := self._transport.send(waiting.request())).has_landed:
            pass
        return found

    def stream_dashboard(
        self, *, on_notice: OnNotice | None = None, give_up_after: float | None = GIVE_UP_AFTER
    ) -> Iterator[Dashboard]:
        """The dashboard, whenever it changes. See `stream_events` for the arguments."""
        return self._listen(channels.dashboard_channel(), "", on_notice, give_up_after)

    def stream_metrics(
        self,
        *metric_names: str,
        on_notice: OnNotice | None = None,
        give_up_after: float | None = GIVE_UP_AFTER,
        **asked: Unpack[MetricsQuery],
    ) -> Iterator[MetricsMessage]:
        """Metrics: whole at first, then the points that change. See `stream_events` for the arguments."""
        return self._listen(channels.metrics_channel(metric_names, asked), "", on_notice, give_up_after)

    def stream_events(
        self,
        *,
        last_event_id: str = "",
        on_notice: OnNotice | None = None,
        give_up_after: float | None = GIVE_UP_AFTER,
        **asked: Unpack[EventsFilter],
    ) -> Iterator[EventsMessage]:
        """A tail of events as they land; goes on behind the last one when the connection is lost.

        Args:
            last_event_id: `id` of the last message seen, to go on behind it, up to five minutes back.
            on_notice: told of interruptions, such as being too slow; else they are logged.
            give_up_after: seconds without a connection until Unreachable is raised; None never gives up.
            asked: as of `events`, without a range.

        Raises:
            MissingLibrary: httpx-sse is not installed.
        """
        return self._listen(channels.events_channel(asked), last_event_id, on_notice, give_up_after)

    def _export(self, asked: Mapping[str, Any], form: Format, decoder: Decoder[M]) -> Iterator[M]:
        request = stored_events.export_request(asked, form)

        def pieces() -> Generator[M]:
            with closing(self._transport.chunks(request)) as chunks:
                for chunk in chunks:
                    yield from decoder.feed(chunk)
            yield from decoder.end()

        return pieces()

    def _listen(
        self, channel: Channel[M], last_id: str, on_notice: OnNotice | None, give_up_after: float | None
    ) -> Iterator[M]:
        stream = Stream(channel, last_event_id=last_id, on_notice=on_notice, give_up_after=give_up_after)
        while True:
            failure: ApiError | httpx.RequestError | None = None
            try:
                with self._transport.open(stream.request(), silence=streams.SILENCE) as response:
                    stream.connected()
                    for told in streams.event_source(response).iter_sse():
                        stream.read()
                        if (message := stream.take(told)) is not None:
                            yield message
                        stream.reading()
            except (ApiError, httpx.RequestError) as error:
                failure = error
            time.sleep(stream.lost(failure))
