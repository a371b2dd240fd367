"""Landing with a span for each batch, linked to the contexts that its messages came with.

Belongs here: what a landing span says. Does not belong here: OpenTelemetry (`tracing`), landing (`storage.landing`).
Only a process with `tracing.enabled` imports this; without it, landing is `Lander` and knows nothing of traces.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from analytics_pipeline import tracing
from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.events.messages import Message, RawBatch
from analytics_pipeline.ingest import accounts
from analytics_pipeline.storage.landing import Deltas, Landed, Lander
from analytics_pipeline.storage.offsets import Span

if TYPE_CHECKING:
    from opentelemetry.trace import Link


class TracedLander(Lander):
    """See `Lander`; an attempt that takes nothing from the inbox leaves no span."""

    def __init__(self, *arguments: Any, traces: tracing.Traces, namespace: str, **options: Any) -> None:
        """Take what a `Lander` takes, and the tracer; `namespace` as for `tracing.Identity`."""
        super().__init__(*arguments, **options)
        self._traces = traces
        self._namespace = namespace

    def land(self, spans: Sequence[Span], decoded: Decoded, deltas: Deltas | None = None) -> Landed:
        """Land a batch of messages from Kafka."""
        attributes = {"messaging.system": "kafka", "analytics.offsets": accounts.offsets(spans)}
        landed = self._traced(
            partial(super().land, spans, decoded, deltas), lambda: decoded.batches, attributes
        )
        assert landed is not None
        return landed

    def land_inbox(
        self, limit: int, decode: Callable[[Sequence[Message]], Decoded], *, is_slow: bool = False
    ) -> Landed | None:
        """Land about `limit` posted events."""
        taken: list[RawBatch] = []

        def noting(messages: Sequence[Message]) -> Decoded:
            decoded = decode(messages)
            taken[:] = decoded.batches
            return decoded

        attributes = {"messaging.system": "analytics.inbox"}
        return self._traced(
            partial(super().land_inbox, limit, noting, is_slow=is_slow), lambda: taken, attributes
        )

    def _traced(
        self,
        land: Callable[[], Landed | None],
        batches: Callable[[], Sequence[RawBatch]],
        attributes: dict[str, Any],
    ) -> Landed | None:
        began = time.time_ns()
        try:
            landed = land()
        except Exception as error:
            self._record(began, batches(), attributes, error=error)
            raise
        if landed is not None:
            about = {
                "analytics.batch_id": landed.batch_id,
                "analytics.stored": sum(line.stored for line in landed.lines),
                "analytics.duplicate": sum(line.duplicate for line in landed.lines),
                "analytics.dead": sum(line.dead for line in landed.lines),
            }
            identity = tracing.Identity.of_batch(self._namespace, landed.batch_id)
            self._record(began, batches(), attributes | about, identity=identity, steps=landed.steps)
        return landed

    def _record(
        self, began: int, batches: Sequence[RawBatch], attributes: dict[str, Any], **how: Any
    ) -> None:
        common = {
            "messaging.operation.type": "process",
            "messaging.batch.message_count": sum(len(batch.messages) for batch in batches),
        }
        self._traces.record(
            "land batch",
            "consumer",
            common | attributes,
            start=began,
            end=time.time_ns(),
            links=islice(_links(batches), tracing.MOST_LINKS),
            **how,
        )


def _links(batches: Iterable[RawBatch]) -> Iterator["Link"]:
    """One for each context that messages came with, where it was met first."""
    known: set[str] = set()
    for batch in batches:
        for message in batch.messages:
            context = _context_of(message)
            if context is None or context in known:
                continue
            known.add(context)
            where = {
                "messaging.destination.name": batch.source,
                "messaging.destination.partition.id": str(batch.partition),
                "messaging.kafka.offset": message.offset(),
            }
            if (link := tracing.link_to(context, where)) is not None:
                yield link


def _context_of(message: Message) -> str | None:
    for name, value in message.headers() or ():
        if name == tracing.TRACEPARENT and isinstance(value, bytes):
            return value.decode("latin-1")
    return None
