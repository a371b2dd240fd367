"""Sending requests with httpx: two thin transports, one that blocks and one for asyncio.

Belongs here: connections, timeouts, waiting between attempts. Does not belong here: what is sent and what answers mean
(`request`, `problems`), and what is worth asking again (`retries`): both transports share those.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx

from b25_client.errors import ApiError, UnexpectedAnswer
from b25_client.keys import find_api_key
from b25_client.problems import MEDIA_TYPE, error_of
from b25_client.request import Answer, Request
from b25_client.retries import Retries

_CONNECT = 5.0

T = TypeVar("T")


def http_options(
    url: str, *, api_key: str | None, timeout: float, headers: Mapping[str, str] | None
) -> dict[str, Any]:
    """What both kinds of httpx client are made with.

    The key travels as `Authorization`, which httpx leaves out of everything it prints. Redirects are not followed:
    they would take it elsewhere.

    Raises:
        ValueError: `url`, `api_key` or `timeout` cannot be right; the text repeats none of them.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError("url: it begins with http:// or https://")
    if httpx.URL(url).userinfo:
        raise ValueError("url: a user or a password does not belong into it; give api_key")
    if not 0 < timeout < float("inf"):
        raise ValueError("timeout: seconds, more than 0")
    key = find_api_key(api_key)
    authorization = {} if key is None else {"Authorization": f"Bearer {key}"}
    return {
        "base_url": url.rstrip("/"),
        "headers": {"Accept": "application/json", **authorization, **(headers or {})},
        "timeout": httpx.Timeout(timeout, connect=min(_CONNECT, timeout)),
        "follow_redirects": False,
    }


def finish(request: Request[T], answer: Answer) -> T:
    """The result of an answer.

    Raises:
        ApiError: it is an error.
        UnexpectedAnswer: it is not understood.
    """
    if answer.status not in request.answers or _content_type(answer) == MEDIA_TYPE:
        if answer.status < 400:
            raise UnexpectedAnswer(
                f"HTTP {answer.status} from {request.path}: is this the address of the service?"
            )
        raise error_of(answer)
    try:
        return request.read(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedAnswer(
            f"an answer from {request.path} that is not understood: is this the address of the service?"
        ) from error


class Transport:
    """Sends and blocks; several threads may use it."""

    def __init__(self, http: httpx.Client, retries: Retries) -> None:
        self.http, self._retries = http, retries

    def send(self, request: Request[T]) -> T:
        """Ask until there is an answer that counts.

        Raises:
            ApiError, UnexpectedAnswer, Unreachable: see `b25_client.errors`.
        """
        attempts = self._retries.attempts(request)
        while True:
            try:
                return finish(request, _answer(self.http.send(_build(self.http, request))))
            except (ApiError, httpx.RequestError) as error:
                wait = attempts.after(error)
            time.sleep(wait)

    @contextmanager
    def open(self, request: Request[Any], *, silence: float | None = None) -> Iterator[httpx.Response]:
        """Ask once, for an answer that is read piece by piece.

        Args:
            request: what is asked.
            silence: longest wait for a piece in seconds, if another than the client's.

        Raises:
            ApiError, UnexpectedAnswer: it was refused.
            httpx.RequestError: there was no answer, or it broke off.
        """
        response = self.http.send(_build(self.http, request, silence), stream=True)
        try:
            if response.status_code not in request.answers:
                response.read()
                finish(request, _answer(response))
            yield response
        finally:
            response.close()

    def chunks(self, request: Request[Any]) -> Generator[bytes]:
        """The bytes of an answer; once the first is there, nothing is asked again.

        Raises:
            ApiError, UnexpectedAnswer, Unreachable: there is nothing to read.
            StreamBroken: it broke off.
        """
        attempts = self._retries.attempts(request)
        has_begun = False
        while True:
            try:
                with self.open(request) as response:
                    for chunk in response.iter_bytes():
                        has_begun = True
                        yield chunk
                    return
            except (ApiError, httpx.RequestError) as error:
                wait = attempts.after(error, has_begun=has_begun)
            time.sleep(wait)


class AsyncTransport:
    """`Transport` for asyncio."""

    def __init__(self, http: httpx.AsyncClient, retries: Retries) -> None:
        self.http, self._retries = http, retries

    async def send(self, request: Request[T]) -> T:
        """As `Transport.send`."""
        attempts = self._retries.attempts(request)
        while True:
            try:
                return finish(request, _answer(await self.http.send(_build(self.http, request))))
            except (ApiError, httpx.RequestError) as error:
                wait = attempts.after(error)
            await asyncio.sleep(wait)

    @asynccontextmanager
    async def open(
        self, request: Request[Any], *, silence: float | None = None
    ) -> AsyncIterator[httpx.Response]:
        """As `Transport.open`."""
        response = await self.http.send(_build(self.http, request, silence), stream=True)
        try:
            if response.status_code not in request.answers:
                await response.aread()
                finish(request, _answer(response))
            yield response
        finally:
            await response.aclose()

    async def chunks(self, request: Request[Any]) -> AsyncGenerator[bytes]:
        """As `Transport.chunks`."""
        attempts = self._retries.attempts(request)
        has_begun = False
        while True:
            try:
                async with self.open(request) as response:
                    async for chunk in response.aiter_bytes():
                        has_begun = True
                        yield chunk
                    return
            except (ApiError, httpx.RequestError) as error:
                wait = attempts.after(error, has_begun=has_begun)
            await asyncio.sleep(wait)


def _build(
    http: httpx.Client | httpx.AsyncClient, request: Request[Any], silence: float | None = None
) -> httpx.Request:
    usual = http.timeout
    read = silence if silence is not None else (usual.read or 0.0) + request.takes
    return http.build_request(
        request.method,
        request.path,
        params=list(request.parameters) or None,
        headers=dict(request.headers),
        json=request.body,
        timeout=httpx.Timeout(connect=usual.connect, read=read, write=usual.write, pool=usual.pool),
    )


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.content)


def _content_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()
