"""A TCP proxy in front of Postgres that cuts landing connections in the middle of COMMIT."""

import contextlib
import socket
import threading
from collections import Counter
from enum import StrEnum

_QUERY_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
_BATCH = 4096
"""Bytes of a transaction that lands something; an empty look into the inbox has fewer."""
_LATE = 1.0
"""Seconds by which a late COMMIT is held back: the product has connected again by then."""


class Cut(StrEnum):
    """What becomes of a COMMIT; the client's connection is reset in every case."""

    NEVER_SENT = "never sent"
    HALF_SENT = "half sent"
    NOT_ANSWERED = "sent, not waited for"
    ANSWER_LOST = "done, the answer lost"
    LATE = "arrives when the client has long gone"


class Proxy:
    """Listens on loopback; each `cut_next` cuts the next COMMIT of a landing connection.

    Attributes:
        fired: cuts that were made.
    """

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.fired: Counter[Cut] = Counter()
        self._planned: Cut | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut_next(self, cut: Cut) -> None:
        with self._lock:
            self._planned = cut

    @property
    def is_waiting(self) -> bool:
        return self._planned is not None

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._to)
        except OSError:
            client.close()
            return
        is_muted = threading.Event()
        threading.Thread(target=_bring_answers, args=(server, client, is_muted), daemon=True).start()
        is_landing, sent = False, 0
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                is_landing = is_landing or b"application_name\x00analytics-landing-" in data
                if data.endswith(_QUERY_COMMIT):
                    cut = self._take() if is_landing and sent > _BATCH else None
                    if cut is not None:
                        self._cut(cut, client, server, data, is_muted)
                        return
                    sent = 0
                sent += len(data)
                server.sendall(data)
        _close(server)
        _close(client)

    def _take(self) -> Cut | None:
        with self._lock:
            cut, self._planned = self._planned, None
            return cut

    def _cut(
        self, cut: Cut, client: socket.socket, server: socket.socket, data: bytes, is_muted: threading.Event
    ) -> None:
        self.fired[cut] += 1
        is_muted.set()
        if cut is Cut.HALF_SENT:
            server.sendall(data[: len(data) - len(_QUERY_COMMIT) // 2])
        if cut in (Cut.NOT_ANSWERED, Cut.ANSWER_LOST):
            server.sendall(data)
        if cut is Cut.ANSWER_LOST:
            threading.Event().wait(0.2)
        _close(client)
        if cut is Cut.LATE:
            threading.Event().wait(_LATE)
            server.sendall(data)
        _close(server)


def _bring_answers(server: socket.socket, client: socket.socket, is_muted: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := server.recv(65536):
            if not is_muted.is_set():
                client.sendall(data)
    if not is_muted.is_set():
        _close(client)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
