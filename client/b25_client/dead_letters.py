"""Messages that could not become events: seeing, replaying and discarding them.

Belongs here: requests and answers of `/api/v1/dead-letters`. Does not belong here: what the ledger says of them
(`ledger`).
"""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict

from b25_client.request import Answer, Page, Request, path_of, read_record, write_body, write_parameters

PATH = "/api/v1/dead-letters"

_CHOICES = (
    "ids",
    "reasons",
    "event_types",
    "sources",
    "producers",
    "groups",
    "start_time",
    "end_time",
    "all",
)


class DeadLettersQuery(TypedDict, total=False):
    """Keyword arguments that choose letters; all must hold, of several values any.

    `event_type="order.*"` stands for all that begin so. `status` is `open` unless said otherwise. `limit` is the size
    of a page, or the most groups.
    """

    reason: str | Sequence[str]
    event_type: str | Sequence[str]
    source: str | Sequence[str]
    producer: str | Sequence[str]
    group: str | Sequence[str]
    id: int | Sequence[int]
    start_time: datetime | str
    end_time: datetime | str
    status: Literal["open", "replayed", "discarded", "all"]
    limit: int


class _Paged(DeadLettersQuery, total=False):
    cursor: str


class DeadLettersChoice(TypedDict, total=False):
    """Keyword arguments that choose open letters to replay or discard; `all=True` where nothing else is said."""

    ids: Sequence[int]
    reasons: Sequence[str]
    event_types: Sequence[str]
    sources: Sequence[str]
    producers: Sequence[str]
    groups: Sequence[str]
    start_time: datetime | str
    end_time: datetime | str
    all: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter without its bytes.

    Attributes:
        source: the topic, or `http`.
        offset: in its partition; None for `http`.
        reason: a code that is never renamed.
        detail: where, and what; never a value.
        event_type: None where the message does not tell it.
        group: the same for the same reason, place and shape.
        attempts: replays so far.
        created_at: when it was written.
        message_timestamp: when its message reached the source.
        attempted_at: of the last replay.
        settled_at: when it was replayed or discarded.
        replay_batch_id: the batch of the ledger that landed it.
        note: why it was discarded.
        size: bytes of its value.
        producer: who sent it, by the name in the message's headers; None where they give none.
    """

    id: int
    source: str
    partition: int
    offset: int | None
    reason: str
    detail: str
    event_type: str | None
    group: str
    status: Literal["open", "replayed", "discarded"]
    attempts: int
    created_at: datetime
    message_timestamp: datetime | None
    attempted_at: datetime | None
    settled_at: datetime | None
    replay_batch_id: int | None
    note: str | None
    size: int
    producer: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Letters of one reason, place and shape; what is shown of one letter is of the newest, `sample`.

    `producers`: who sent them, the one with the most letters first, at most 10.
    """

    group: str
    reason: str
    event_type: str | None
    detail: str
    shape: str
    count: int
    open: int
    first_seen: datetime
    last_seen: datetime
    sample: int
    producers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of a message; `is_cut`: there are `size` of them, more than asked for."""

    size: int
    bytes: bytes
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Header:
    """A header of a message; `value` is None for a null value, and for keys without the scope `admin`."""

    name: str
    size: int | None
    value: Content | None


@dataclass(frozen=True, slots=True)
class WholeDeadLetter:
    """A dead letter with its message.

    Attributes:
        letter: the same without.
        meaning: what the reason says.
        advice: what its producer should do.
        value: None for a tombstone, and when the content has expired.
    """

    letter: DeadLetter
    meaning: str | None
    advice: str | None
    key: Content | None
    value: Content | None
    headers: tuple[Header, ...]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the letters that were tried, or, of a dry run, would have.

    Attributes:
        stored: whose event is stored now.
        duplicate: whose event was stored already.
        still_bad: those that stay open, by their new reason.
        busy: held by another replay, and left to it.
        next_after: not all were tried: ask again with this as `after`. None: all were.
    """

    dry_run: bool
    tried: int
    stored: int
    duplicate: int
    still_bad: Mapping[str, int]
    busy: int
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Discarded:
    """How many were, or would be, discarded; `has_more`: ask once more."""

    dry_run: bool
    discarded: int
    has_more: bool


def letters_request(asked: Mapping[str, Any], cursor: str | None) -> Request[Page[DeadLetter]]:
    """Ask for a page of letters, newest first.

    Raises:
        TypeError, ValueError: an argument is not known, or cannot be written.
    """
    write_parameters(asked, DeadLettersQuery)
    return Request(PATH, _read_letters, write_parameters({**asked, "cursor": cursor}, _Paged))


def groups_request(asked: Mapping[str, Any]) -> Request[tuple[DeadLetterGroup, ...]]:
    """Ask for groups, the largest first."""
    return Request(PATH + "/groups", _read_groups, write_parameters(asked, DeadLettersQuery))


def letter_request(letter_id: int, max_bytes: int | None) -> Request[WholeDeadLetter]:
    """Ask for one letter with its message."""
    parameters = [] if max_bytes is None else [("max_bytes", str(max_bytes))]
    return Request(path_of("api", "v1", "dead-letters", str(letter_id)), _read_whole, parameters)


def replay_request(
    asked: Mapping[str, Any], *, dry_run: bool, limit: int | None, after: int | None
) -> Request[Replayed]:
    """Have open letters landed again."""
    body = _choice(asked) | write_body({"dry_run": dry_run, "limit": limit, "after": after})
    return Request(
        PATH + "/replay", lambda answer: read_record(Replayed, answer.json()), body=body, is_read=dry_run
    )


def discard_request(
    asked: Mapping[str, Any], note: str, *, dry_run: bool, limit: int | None
) -> Request[Discarded]:
    """Have open letters given up."""
    body = _choice(asked) | write_body({"note": note, "dry_run": dry_run, "limit": limit})
    return Request(
        PATH + "/discard", lambda answer: read_record(Discarded, answer.json()), body=body, is_read=dry_run
    )


def _choice(asked: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in asked.items():
        if name not in _CHOICES:
            raise TypeError(f"{name}: there is no filter of this name; there are {', '.join(_CHOICES)}")
        if isinstance(value, str) and name.endswith("s"):
            raise TypeError(f"{name}: a list")
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in write_body(asked).items()
    }


def _read_letters(answer: Answer) -> Page[DeadLetter]:
    content = answer.json()
    found = tuple(read_record(DeadLetter, one) for one in content["dead_letters"])
    return Page(found, content.get("next_cursor"))


def _read_groups(answer: Answer) -> tuple[DeadLetterGroup, ...]:
    return tuple(read_record(DeadLetterGroup, one) for one in answer.json()["groups"])


def _read_whole(answer: Answer) -> WholeDeadLetter:
    content = answer.json()
    return WholeDeadLetter(
        read_record(DeadLetter, content),
        content["meaning"],
        content["advice"],
        _content(content["key"]),
        _content(content["value"]),
        tuple(Header(one["name"], one["size"], _content(one["value"])) for one in content["headers"]),
    )


def _content(content: Mapping[str, Any] | None) -> Content | None:
    if content is None:
        return None
    return Content(content["size"], b64decode(content["base64"], validate=True), content["is_cut"])
