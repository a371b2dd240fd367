"""Methods of both clients about what the service did: dead letters, the ledger, sources, restatements.

Belongs here: the methods. Does not belong here: what is asked and answered (`dead_letters`, `ledger`, `restatements`).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from datetime import datetime
from typing import Unpack

from b25_client import dead_letters, ledger, restatements
from b25_client.calls import AsyncCalls, Calls
from b25_client.dead_letters import (
    DeadLetter,
    DeadLetterGroup,
    DeadLettersChoice,
    DeadLettersQuery,
    Discarded,
    Replayed,
    WholeDeadLetter,
)
from b25_client.ledger import (
    Conservation,
    ConservationQuery,
    LedgerCheck,
    LedgerLine,
    LedgerQuery,
    SourcesQuery,
    SourceStatistics,
)
from b25_client.restatements import Feed, Restatement, RestatementsPage, RestatementsQuery


class OperationCalls(Calls):
    """What the service did; see docs/operations-over-rest.md."""

    def dead_letters(self, **asked: Unpack[DeadLettersQuery]) -> Iterator[DeadLetter]:
        """Messages that could not become events, newest first, without their bytes."""
        return self._follow(lambda cursor: dead_letters.letters_request(asked, cursor))

    def dead_letter_groups(self, **asked: Unpack[DeadLettersQuery]) -> tuple[DeadLetterGroup, ...]:
        """How many there are by reason, place and shape, the largest group first."""
        return self._transport.send(dead_letters.groups_request(asked))

    def dead_letter(self, letter_id: int, *, max_bytes: int | None = None) -> WholeDeadLetter:
        """One with its key, value and headers, at most `max_bytes` (65,536) of each.

        Raises:
            NotFound: there is none of this id that may be seen.
        """
        return self._transport.send(dead_letters.letter_request(letter_id, max_bytes))

    def replay_dead_letters(
        self,
        *,
        dry_run: bool = False,
        limit: int | None = None,
        after: int | None = None,
        **asked: Unpack[DeadLettersChoice],
    ) -> Replayed:
        """Land open ones again, as many as one request may; `next_after` leads to the rest. Needs the scope `admin`.

        Args:
            dry_run: judge, and change nothing.
            limit: try at most so many, 10,000 unless fewer are asked for.
            after: only letters of greater ids: `next_after` of the last answer.
            asked: which; `all=True` where nothing else is said.
        """
        return self._transport.send(
            dead_letters.replay_request(asked, dry_run=dry_run, limit=limit, after=after)
        )

    def discard_dead_letters(
        self,
        note: str,
        *,
        dry_run: bool = False,
        limit: int | None = None,
        **asked: Unpack[DeadLettersChoice],
    ) -> Discarded:
        """Give open ones up, and say why; with `has_more` ask once more. Needs the scope `admin`.

        Args:
            note: kept with them.
            dry_run: count, and change nothing.
            limit: at most so many, the oldest first.
            asked: which; `all=True` where nothing else is said.
        """
        return self._transport.send(dead_letters.discard_request(asked, note, dry_run=dry_run, limit=limit))

    def ledger(self, **asked: Unpack[LedgerQuery]) -> Iterator[LedgerLine]:
        """What became of the messages of each batch and partition, newest first."""
        return self._follow(lambda cursor: ledger.lines_request(asked, cursor))

    def conservation(self, **asked: Unpack[ConservationQuery]) -> Conservation:
        """What became of every message of a range, per partition, and whether none is missing."""
        return self._transport.send(ledger.conservation_request(asked))

    def ledger_checks(
        self, *, start_time: datetime | str | None = None, tables: bool = False
    ) -> tuple[LedgerCheck, ...]:
        """The proof that nothing was lost or doubled; with `tables` against the rows of events, which reads them."""
        return self._transport.send(ledger.checks_request(start_time, tables))

    def sources(self, **asked: Unpack[SourcesQuery]) -> tuple[SourceStatistics, ...]:
        """What each producer of each topic sends: rate, lateness, duplicates, dead letters."""
        return self._transport.send(ledger.sources_request(asked))

    def restatements(self, **asked: Unpack[RestatementsQuery]) -> Iterator[Restatement]:
        """Totals of buckets that changed after they were final, newest first."""
        return self._follow(lambda cursor: restatements.list_request(asked, cursor))

    def restatements_page(
        self, *, cursor: str | None = None, **asked: Unpack[RestatementsQuery]
    ) -> RestatementsPage:
        """One page of them, with the cursors to older and to newer ones."""
        return self._transport.send(restatements.page_request(asked, cursor))

    def follow_restatements(
        self, *, cursor: str | None = None, every: float = 10.0, **asked: Unpack[RestatementsQuery]
    ) -> Iterator[RestatementsPage]:
        """Changes as they come, each once, oldest first on its page; it never ends by itself.

        Args:
            cursor: `previous_cursor` of the page to go on from, also of another day; None: from now on.
            every: seconds between two looks while nothing changes.
            asked: as of `restatements`.
        """
        feed = Feed(asked, cursor)
        while True:
            if (told := feed.take(self._transport.send(feed.request()))) is not None:
                yield told
            else:
                time.sleep(every)


class AsyncOperationCalls(AsyncCalls):
    """`OperationCalls` for asyncio."""

    def dead_letters(self, **asked: Unpack[DeadLettersQuery]) -> AsyncGenerator[DeadLetter]:
        """As `Client.dead_letters`."""
        return self._follow(lambda cursor: dead_letters.letters_request(asked, cursor))

    async def dead_letter_groups(self, **asked: Unpack[DeadLettersQuery]) -> tuple[DeadLetterGroup, ...]:
        """As `Client.dead_letter_groups`."""
        return await self._transport.send(dead_letters.groups_request(asked))

    async def dead_letter(self, letter_id: int, *, max_bytes: int | None = None) -> WholeDeadLetter:
        """As `Client.dead_letter`."""
        return await self._transport.send(dead_letters.letter_request(letter_id, max_bytes))

    async def replay_dead_letters(
        self,
        *,
        dry_run: bool = False,
        limit: int | None = None,
        after: int | None = None,
        **asked: Unpack[DeadLettersChoice],
    ) -> Replayed:
        """As `Client.replay_dead_letters`."""
        return await self._transport.send(
            dead_letters.replay_request(asked, dry_run=dry_run, limit=limit, after=after)
        )

    async def discard_dead_letters(
        self,
        note: str,
        *,
        dry_run: bool = False,
        limit: int | None = None,
        **asked: Unpack[DeadLettersChoice],
    ) -> Discarded:
        """As `Client.discard_dead_letters`."""
        return await self._transport.send(
            dead_letters.discard_request(asked, note, dry_run=dry_run, limit=limit)
        )

    def ledger(self, **asked: Unpack[LedgerQuery]) -> AsyncGenerator[LedgerLine]:
        """As `Client.ledger`."""
        return self._follow(lambda cursor: ledger.lines_request(asked, cursor))

    async def conservation(self, **asked: Unpack[ConservationQuery]) -> Conservation:
        """As `Client.conservation`."""
        return await self._transport.send(ledger.conservation_request(asked))

    async def ledger_checks(
        self, *, start_time: datetime | str | None = None, tables: bool = False
    ) -> tuple[LedgerCheck, ...]:
        """As `Client.ledger_checks`."""
        return await self._transport.send(ledger.checks_request(start_time, tables))

    async def sources(self, **asked: Unpack[SourcesQuery]) -> tuple[SourceStatistics, ...]:
        """As `Client.sources`."""
        return await self._transport.send(ledger.sources_request(asked))

    def restatements(self, **asked: Unpack[RestatementsQuery]) -> AsyncGenerator[Restatement]:
        """As `Client.restatements`."""
        return self._follow(lambda cursor: restatements.list_request(asked, cursor))

    async def restatements_page(
        self, *, cursor: str | None = None, **asked: Unpack[RestatementsQuery]
    ) -> RestatementsPage:
        """As `Client.restatements_page`."""
        return await self._transport.send(restatements.page_request(asked, cursor))

    async def follow_restatements(
        self, *, cursor: str | None = None, every: float = 10.0, **asked: Unpack[RestatementsQuery]
    ) -> AsyncGenerator[RestatementsPage]:
        """As `Client.follow_restatements`."""
        feed = Feed(asked, cursor)
        while True:
            if (told := feed.take(await self._transport.send(feed.request()))) is not None:
                yield told
            else:
                await asyncio.sleep(every)
