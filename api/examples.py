"""True answers to the reads that are asked most, for the OpenAPI document.

Belongs here: answers as they could be, written once. Does not belong here: examples made from shapes (`answers`).
"""

from typing import Any

import orjson

_RANGE = {"start_time": "2026-01-31T10:00:00Z", "end_time": "2026-01-31T12:00:00Z"}

EXAMPLES: dict[str, Any] = {
    "/api/v1/metrics": {
        "cached": False,
        "result": {
            "metric_name": "trading.total_volume",
            "interval": "1h",
            **_RANGE,
            "data_points": [
                {
                    "timestamp": "2026-01-31T10:00:00Z",
                    "value": 60437.25,
                    "dimensions": {},
                    "state": "final",
                    "revision": 12,
                },
                {
                    "timestamp": "2026-01-31T11:00:00Z",
                    "value": 18200.5,
                    "dimensions": {},
                    "state": "open",
                    "revision": 3,
                    "pending": True,
                },
            ],
            "total_count": 2,
            "aggregation": "sum",
            "time_zone": "UTC",
            "precision": "exact",
            "relative_error": 0.0,
        },
    },
    "/api/v1/events/stats": {
        **_RANGE,
        "total_events": 129,
        "by_type": {"order.filled": 57, "order.placed": 72},
    },
    "/api/v1/events": {
        "events": [
            {
                "id": "0197f2f0-6c5c-7d3e-8a4b-1c2d3e4f5a6b",
                "event_type": "order.placed",
                "user_id": "user123",
                "session_id": None,
                "properties": {"symbol": "BTCUSDT", "price": 50000.5, "quantity": 2},
                "timestamp": "2026-01-31T11:59:58.25Z",
                "created_at": "2026-01-31T11:59:58.612Z",
            }
        ],
        "count": 1,
        **_RANGE,
    },
}
"""By path, of GET and status 200."""


def _message(event: str, content: object) -> str:
    return f"retry: 2000\n\nevent: {event}\ndata: {orjson.dumps(content).decode()}\n\n"


STREAMS = {
    "/api/v1/stream/dashboard": _message(
        "dashboard",
        {
            "active_users": 71,
            "events_per_second": 86.3,
            "orders_placed": 2302,
            "orders_filled": 1801,
            "active_strategies": 9,
            "total_volume": 60437.25,
            "average_latency": 12.5,
            "error_rate": 0.0125,
            "custom_metrics": {},
            "last_updated": "2026-01-31T12:00:00Z",
        },
    ),
    "/api/v1/stream/metrics": _message("snapshot", EXAMPLES["/api/v1/metrics"]),
    "/api/v1/stream/events": _message(
        "events", {"events": EXAMPLES["/api/v1/events"]["events"], "has_gap": False}
    ),
}
"""The beginning of each stream, by path."""
