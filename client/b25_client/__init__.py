"""The Python client of B25 Analytics: send events, and learn what became of each of them.

    from b25_client import Producer

    with Producer("http://localhost:9097", client_id="order-execution") as producer:
        producer.send("order.placed", {"order_id": "o-1", "symbol": "BTCUSDT", "price": 50000, "quantity": 0.1})

`Producer` sends over REST and needs httpx; `b25_client.kafka.KafkaProducer` has the same methods, sends over Kafka and
needs confluent-kafka. Nothing of the service itself is imported.
"""

from b25_client.errors import (
    BufferFull,
    ClientError,
    Closed,
    Forked,
    InvalidEvent,
    NotDelivered,
    ProducerFailed,
)
from b25_client.events import Event
from b25_client.interface import EventProducer
from b25_client.producer import Producer
from b25_client.results import Report, Result, Status

__all__ = [
    "BufferFull",
    "ClientError",
    "Closed",
    "Event",
    "EventProducer",
    "Forked",
    "InvalidEvent",
    "NotDelivered",
    "Producer",
    "ProducerFailed",
    "Report",
    "Result",
    "Status",
]
