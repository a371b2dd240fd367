"""What tests of the client share: both kinds of client behind the same methods, keys, and a line that can be cut."""

import asyncio
import contextlib
import inspect
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

from analytics_pipeline.storage.api_keys import NewKey
from b25_client import AsyncClient, Client
from tests.integration.keyed_api import make_key
from tests.waiting import wait_for

_END = object()


class Blocking:
    """An `AsyncClient`, called as a `Client`: what one test says is said of both."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._open: list[AsyncGenerator[Any]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            found = method(*arguments, **named)
            if isinstance(found, AsyncGenerator):
                self._open.append(found)
                return self._iterate(found)
            return self._loop.run_until_complete(found) if inspect.isawaitable(found) else found

        return call

    def __repr__(self) -> str:
        return repr(self._client)

    def close(self) -> None:
        for generator in self._open:
            self._loop.run_until_complete(generator.aclose())
        self._loop.run_until_complete(self._client.close())
        self._loop.close()

    def _iterate(self, generator: AsyncGenerator[Any]) -> Iterator[Any]:
        try:
            while (found := self._loop.run_until_complete(anext(generator, _END))) is not _END:
                yield found
        finally:
            if not self._loop.is_closed():
                self._loop.run_until_complete(generator.aclose())


@contextmanager
def making(url: str, kind: str) -> Iterator[Callable[..., Any]]:
    """Makes clients of a kind, `blocking` or `asyncio`, and closes them."""
    made: list[Any] = []

    def client(address: str = url, **options: Any) -> Any:
        if kind == "blocking":
            made.append(Client(address, **options))
        else:
            made.append(Blocking(AsyncClient(address, **options)))
        return made[-1]

    yield client
    for one in made:
        one.close()


def known_key(database: str, url: str, *scopes: str, **more: Any) -> NewKey:
    """A new key that the service knows."""
    key = make_key(database, *scopes, **more)
    headers = {"X-API-Key": key.text}
    wait_for(lambda: httpx.get(f"{url}/api/v1/session", headers=headers).status_code == 200, timeout=3)
    return key


def unique(name: str) -> str:
    """A name that no other test has."""
    return f"{name}.{uuid4().hex[:8]}"


class Line:
    """A TCP port that leads to another, until it is cut; new connections go through again."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection off."""
        while self._open:
            _break(self._open.pop())

    def close(self) -> None:
        _break(self._listener)
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_carry, args=(one, other), daemon=True).start()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := one.recv(65_536):
            other.sendall(piece)
    _break(other)


def _break(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
