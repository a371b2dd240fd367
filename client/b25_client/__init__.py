"""The Python client of B25 Analytics: read metrics, events and dashboards, define event types,
send events, learn what became of them.

    from b25_client import Client, Producer

    with Client("http://localhost:9097") as client:
        for point in client.metrics("trading.total_volume", interval="5m").points:
            print(point.timestamp, point.value)

    with Producer("http://localhost:9097", client_id="order-execution") as producer:
        producer.send("order.placed", {"order_id": "o-1", "symbol": "BTCUSDT", "price": 50000, "quantity": 0.1})

`Client`, and `AsyncClient` for asyncio, need httpx; their streams httpx-sse, their Arrow tables pyarrow. `Producer`
sends over REST and needs httpx; `b25_client.kafka.KafkaProducer` has the same methods, sends over Kafka and needs
confluent-kafka. Nothing of the service itself is imported.
"""

from b25_client.async_client import AsyncClient
from b25_client.batch import BatchAnswer, BatchQuery, MetricQuery, TilesQuery
from b25_client.channels import EventsMessage, MetricsMessage
from b25_client.client import Client
from b25_client.dashboard import Dashboard, Health
from b25_client.dead_letters import (
    Content,
    DeadLetter,
    DeadLetterGroup,
    Discarded,
    Header,
    Replayed,
    WholeDeadLetter,
)
from b25_client.definitions import (
    Compatibility,
    Definition,
    DefinitionVersion,
    MetricChanges,
    Refusal,
    Trial,
)
from b25_client.discovery import CatalogMetric, ErrorBound
from b25_client.errors import (
    ApiError,
    BufferFull,
    ClientError,
    Closed,
    Conflict,
    Forbidden,
    Forked,
    InvalidEvent,
    InvalidRequest,
    MissingLibrary,
    NotDelivered,
    NotFound,
    NotLanded,
    ProducerFailed,
    RateLimited,
    ScanBudgetExceeded,
    ServiceUnavailable,
    StreamBroken,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
)
from b25_client.events import Event, make_event
from b25_client.filters import Filter
from b25_client.interface import EventProducer
from b25_client.landings import Landing, LandingException
from b25_client.ledger import (
    Conservation,
    ConservedPartition,
    Gap,
    LedgerCheck,
    LedgerLine,
    SourceStatistics,
    Standing,
)
from b25_client.metrics import Metrics, Point
from b25_client.producer import Producer
from b25_client.restatements import BucketTotal, Restatement, RestatementsPage
from b25_client.results import Report, Result, Status
from b25_client.stored_events import EventCounts, EventsPage, EventStatistics, StoredEvent
from b25_client.streams import Notice, NoticeKind

__all__ = [
    "ApiError",
    "AsyncClient",
    "BatchAnswer",
    "BatchQuery",
    "BucketTotal",
    "BufferFull",
    "CatalogMetric",
    "Client",
    "ClientError",
    "Closed",
    "Compatibility",
    "Conflict",
    "Conservation",
    "ConservedPartition",
    "Content",
    "Dashboard",
    "DeadLetter",
    "DeadLetterGroup",
    "Definition",
    "DefinitionVersion",
    "Discarded",
    "ErrorBound",
    "Event",
    "EventCounts",
    "EventProducer",
    "EventStatistics",
    "EventsMessage",
    "EventsPage",
    "Filter",
    "Forbidden",
    "Forked",
    "Gap",
    "Header",
    "Health",
    "InvalidEvent",
    "InvalidRequest",
    "Landing",
    "LandingException",
    "LedgerCheck",
    "LedgerLine",
    "MetricChanges",
    "MetricQuery",
    "Metrics",
    "MetricsMessage",
    "MissingLibrary",
    "NotDelivered",
    "NotFound",
    "NotLanded",
    "Notice",
    "NoticeKind",
    "Point",
    "Producer",
    "ProducerFailed",
    "RateLimited",
    "Refusal",
    "Replayed",
    "Report",
    "Restatement",
    "RestatementsPage",
    "Result",
    "ScanBudgetExceeded",
    "ServiceUnavailable",
    "SourceStatistics",
    "Standing",
    "Status",
    "StoredEvent",
    "StreamBroken",
    "TilesQuery",
    "Trial",
    "Unauthorized",
    "UnexpectedAnswer",
    "Unreachable",
    "WholeDeadLetter",
    "make_event",
]
