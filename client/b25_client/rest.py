"""POST of a batch, once, and what the service said about each event.

Belongs here: HTTP, and reading answers. Does not belong here: waiting and sending again (`producer`).

One event a line (NDJSON). The service answers 201 when it took all, 207 when it took some, 400 when it took none;
`results` names those that it refused, and says why. What else it may say holds for the whole request.
"""

import gzip
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx

from b25_client.backoff import retry_after
from b25_client.events import Event
from b25_client.results import Status

PATH = "/api/v1/events"
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_TOO_LARGE = 413
_NOT_AUTHORIZED = frozenset({401, 403, 407})
_MOST_DETAIL = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the service decided about one event."""

    status: Status
    reason: str | None = None
    detail: str = ""
    landing: str | None = None
    position: int | None = None


_ACCEPTED = Verdict(Status.ACCEPTED)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request.

    Attributes:
        verdicts: one per event, None where it should be sent again.
        wait: seconds that the service asked to wait, None if it did not.
        is_too_large: the request was; send fewer events at once.
        trouble: why events should be sent again, for a person.
    """

    verdicts: list[Verdict | None]
    wait: float | None = None
    is_too_large: bool = False
    trouble: str = ""


class Rest:
    """One connection to the service; used by one thread."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        use_gzip: bool,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError("url: it begins with http:// or https://")
        self._url = url.rstrip("/") + PATH
        self._use_gzip = use_gzip
        self._client = httpx.Client(
            headers={
                "Content-Type": "application/x-ndjson",
                "Accept": "application/json",
                "Prefer": "return=minimal",
                **headers,
            },
            transport=transport,
            follow_redirects=False,
        )

    def post(self, events: Sequence[Event], timeout: float) -> Answer:
        """Send events once. Never raises for what a network or a service can do.

        Args:
            events: at least one.
            timeout: seconds to connect, and to wait for the answer.
        """
        body = b"".join(event.payload + b"\n" for event in events)
        headers = {}
        if self._use_gzip:
            body, headers = gzip.compress(body, compresslevel=1), {"Content-Encoding": "gzip"}
        try:
            answer = self._client.post(self._url, content=body, headers=headers, timeout=timeout)
        except httpx.TransportError as error:  # timeouts, refused and broken connections, broken answers
            return _again(events, trouble=f"no answer ({type(error).__name__})")
        return read_answer(
            answer.status_code, answer.headers.get("retry-after"), answer.content, len(events)
        ) or _again(events, trouble=f"an answer that is not understood (HTTP {answer.status_code})")

    def close(self) -> None:
        """Disconnect."""
        self._client.close()


def read_answer(status: int, wait: str | None, body: bytes, count: int) -> Answer | None:
    """What an answer means for each of `count` events; None if it is no answer of the service's."""
    if status in _AGAIN:
        seconds = retry_after(wait, datetime.now(UTC))
        return Answer([None] * count, seconds, trouble=f"HTTP {status}: {_detail(_json(body))}")
    if status == _TOO_LARGE:
        return Answer([None] * count, is_too_large=True, trouble="HTTP 413")
    content = _json(body)
    items = content.get("results")
    if isinstance(items, list):
        return _read_items(items, count, content)
    if status in {200, 201, 202}:
        return Answer(_placed([_ACCEPTED] * count, content)) if content.get("success") is True else None
    if status in _NOT_AUTHORIZED:
        return _refuse_all("not_authorized", status, content, count)
    if 400 <= status < 500:
        reason = _text(content, "reason")
        if count > 1 and reason is not None:
            # About one of the events, and it does not say which: one at a time, each gets its own answer.
            return Answer([None] * count, is_too_large=True, trouble=f"HTTP {status}")
        return _refuse_all(reason or "request_refused", status, content, count)
    return None


def _read_items(items: list[Any], count: int, content: Mapping[str, Any]) -> Answer | None:
    # An answer may leave out what it accepted, if it says how many those are.
    is_brief = content.get("accepted") == count - len(items)
    verdicts: list[Verdict | None] = [_ACCEPTED if is_brief else None] * count
    for position, item in enumerate(items):
        if not isinstance(item, dict):
            return None
        index = item.get("index", position)
        if not isinstance(index, int) or not 0 <= index < count:
            return None
        status = item.get("status")
        if status in _AGAIN:
            verdicts[index] = None
        elif isinstance(status, int) and 200 <= status < 300:
            verdicts[index] = _ACCEPTED
        else:
            reason = _text(item, "reason") or "request_refused"
            verdicts[index] = Verdict(Status.REFUSED, reason, _detail(item))
    return Answer(_placed(verdicts, content), trouble="the service asked to send some events again")


def _placed(verdicts: Sequence[Verdict | None], content: Mapping[str, Any]) -> list[Verdict | None]:
    """Accepted events with the token of their request, and their positions among the accepted."""
    landing, numbers = _text(content, "landing"), itertools.count()
    return [
        replace(verdict, landing=landing, position=next(numbers)) if verdict is _ACCEPTED else verdict
        for verdict in verdicts
    ]


def _refuse_all(reason: str, status: int, content: Mapping[str, Any], count: int) -> Answer:
    return Answer([Verdict(Status.REFUSED, reason, f"HTTP {status}: {_detail(content)}")] * count)


def _again(events: Sequence[Event], *, trouble: str) -> Answer:
    return Answer([None] * len(events), trouble=trouble)


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _text(content: Mapping[str, Any], name: str) -> str | None:
    found = content.get(name)
    return found if isinstance(found, str) else None


def _detail(content: Mapping[str, Any]) -> str:
    found = content.get("detail") or content.get("title") or content.get("error") or ""
    path = content.get("path")
    text = found if isinstance(found, str) else ""
    if isinstance(path, str) and path not in text:
        text = f"{path}: {text}"
    return text[:_MOST_DETAIL]
