"""A load generator for POST in one process: raw sockets and epoll, so that it costs the machine little.

`python -m benchmarks.http_load PORT KIND CONNECTIONS SECONDS EVENTS`, as a process of its own; prints one JSON object.
"""

import json
import select
import socket
import sys
import time
from datetime import UTC, datetime

PATH = "/api/v1/events"
_RECEIVE = 1 << 18


def event_parts() -> tuple[bytes, bytes]:
    """What stands before and after the last 12 digits of the id: an order of about 290 bytes, with id and timestamp."""
    content = {
        "event_type": "order.filled",
        "user_id": "trader-0042",
        "session_id": "session-7781",
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": {
            "order_id": "ord-90817263", "symbol": "BTCUSDT", "side": "BUY", "order_type": "LIMIT",
            "price": 50123.25, "quantity": 0.125, "strategy_id": "momentum-3", "latency_ms": 12.4,
        },
        "id": f"{time.time_ns() // 1_000_000:012x}"[:8] + f"-{time.time_ns() // 1_000_000 & 0xFFFF:04x}-7000-8000-@",
    }  # fmt: skip
    before, _, after = json.dumps(content, separators=(",", ":")).encode().partition(b"@")
    return before, after


class _Load:
    def __init__(self, port: int, kind: str, connections: int, events: int) -> None:
        self._before, self._after = event_parts()
        self._events = events
        self._media = "application/x-ndjson" if kind == "ndjson" else "application/json"
        self._next = 0
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._sent_at: dict[int, float] = {}
        self._received: dict[int, bytes] = {}
        self.seconds: list[float] = []
        self.statuses: dict[str, int] = {}
        for _ in range(connections):
            opened = socket.create_connection(("127.0.0.1", port))
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[opened.fileno()] = opened
            self._received[opened.fileno()] = b""
            self._poll.register(opened.fileno(), select.EPOLLIN)

    def run(self, seconds: float) -> float:
        began = time.perf_counter()
        for number in self._sockets:
            self._send(number)
        while self._sockets:
            is_over = time.perf_counter() - began > seconds
            for number, _ in self._poll.poll(1.0):
                if self._receive(number):
                    if is_over:
                        self._poll.unregister(number)
                        self._sockets.pop(number).close()
                    else:
                        self._send(number)
        return time.perf_counter() - began

    def _send(self, number: int) -> None:
        body = self._body()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {self._media}\r\n"
            f"Prefer: return=minimal\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._sent_at[number] = time.perf_counter()
        self._sockets[number].sendall(head.encode() + body)

    def _body(self) -> bytes:
        before, after, first = self._before, self._after, self._next
        self._next += self._events
        return b"\n".join([b"%b%012x%b" % (before, n, after) for n in range(first, self._next)])

    def _receive(self, number: int) -> bool:
        part = self._sockets[number].recv(_RECEIVE)
        if not part:
            raise ConnectionError("the server closed a connection")
        got = self._received[number] + part
        head, found, body = got.partition(b"\r\n\r\n")
        if found:
            at = head.lower().index(b"content-length:") + 15
            length = int(head[at:].split(b"\r\n", 1)[0])
            if len(body) >= length:
                self.seconds.append(time.perf_counter() - self._sent_at[number])
                status = head[9:12].decode()
                self.statuses[status] = self.statuses.get(status, 0) + 1
                self._received[number] = b""
                return True
        self._received[number] = got
        return False


def main() -> None:
    port, kind, connections, seconds, events = sys.argv[1:]
    load = _Load(int(port), kind, int(connections), int(events))
    elapsed = load.run(float(seconds))
    times = sorted(load.seconds)
    figures = {
        "requests": len(times),
        "seconds": elapsed,
        "statuses": load.statuses,
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[int(len(times) * 0.99)] * 1000,
        "cpu_seconds": time.process_time(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
