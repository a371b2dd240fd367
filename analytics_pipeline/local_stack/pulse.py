"""The numbers of the status line, from the ledger in Postgres and the ends of the topics in Kafka.

Belongs here: reading them about once a second, cheaply, however long the stack runs.
Does not belong here: showing them (`display`).
"""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from confluent_kafka.admin import AdminClient

from analytics_pipeline.ingest.topics import admin, ends
from analytics_pipeline.settings import Settings

_WINDOW = 10
_SETTLED_AFTER = timedelta(seconds=60)  # no landing transaction lasts longer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SUMS = """
SELECT
    coalesce(sum(stored), 0), coalesce(sum(duplicate), 0), coalesce(sum(dead), 0),
    coalesce(sum(read) FILTER (WHERE committed_at > %(now)s - make_interval(secs => %(window)s)), 0)
FROM ingest_batches WHERE committed_at > %(after)s AND committed_at <= %(until)s
"""
_NEWEST = """
SELECT batch_id, committed_at FROM ingest_batches WHERE committed_at <= %s ORDER BY committed_at DESC LIMIT 1
"""
_IS_THERE = "SELECT FROM ingest_batches WHERE batch_id = %s AND committed_at = %s"
_OFFSETS = """
SELECT source, partition, next_offset, extract(epoch FROM clock_timestamp() - caught_up_at)
FROM ingest_offsets WHERE NOT is_retired AND source = ANY(%s)
"""
_INBOX = "SELECT coalesce(sum(events), 0)::bigint FROM http_inbox"


@dataclass(frozen=True)
class Sample:
    """One moment.

    Attributes:
        rate: messages read a second, over the last ten.
        stored, duplicate, dead: of the whole ledger.
        lag: messages in Kafka, and rows of the inbox, that have not landed; None: Kafka does not answer.
        fresh: seconds since which every source had landed completely; None: not known yet.
        problem: why there are no numbers, else empty.
        read_at: when reading this sample began.
    """

    rate: float = 0.0
    stored: int = 0
    duplicate: int = 0
    dead: int = 0
    lag: int | None = None
    fresh: float | None = None
    problem: str = ""
    read_at: datetime | None = None


class Pulse:
    """Reads samples in a thread of its own; `latest` never blocks."""

    def __init__(self, settings: Settings) -> None:
        self._conninfo = settings.database.conninfo()
        self._kafka = settings.kafka
        self._sources = self._kafka.topics if self._kafka.enabled else []
        self._sample = Sample(problem="no numbers yet")
        self._partitions: list[tuple[str, int]] = []
        self._settled = (0, 0, 0)
        self._settled_until = _EPOCH
        self._newest: tuple[int, datetime] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    @property
    def latest(self) -> Sample:
        """The newest sample."""
        return self._sample

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Read no more."""
        self._ended.set()

    def _run(self) -> None:
        client = admin(self._kafka) if self._kafka.enabled else None
        while not self._ended.is_set():
            try:
                with psycopg.connect(
                    self._conninfo, autocommit=True, application_name="analytics-status", connect_timeout=3
                ) as connection:
                    connection.execute("SET statement_timeout = '5s'")
                    while not self._ended.wait(1.0):
                        self._sample = self.read(connection, client)
            except psycopg.Error:
                self._sample = Sample(problem="Postgres does not answer")
                self._ended.wait(1.0)

    def read(self, connection: "psycopg.Connection[Any]", client: AdminClient | None) -> Sample:
        """One sample.

        Raises:
            psycopg.Error: Postgres does not answer.
        """
        now = datetime.now(UTC)
        # ends first: a lag of 0 then means that all that was there at `now` has landed (an idle client is falsy)
        known = ends(client, self._partitions, timeout=3.0) if client is not None else {}
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            self._settle(connection, now)
            recent = self._sum(connection, now, self._settled_until, now + timedelta(days=1))
            offsets = connection.execute(_OFFSETS, (self._sources,)).fetchall()
            waiting = connection.execute(_INBOX).fetchone()
        landed = {(source, partition): int(next_offset) for source, partition, next_offset, _ in offsets}
        self._partitions = list(landed)
        ages = [row[3] for row in offsets]
        lag = None
        if known is not None and waiting is not None and known.keys() == landed.keys():
            lag = int(waiting[0]) + sum(max(0, known[key] - landed[key]) for key in landed)
        return Sample(
            rate=recent[3] / _WINDOW,
            stored=self._settled[0] + recent[0],
            duplicate=self._settled[1] + recent[1],
            dead=self._settled[2] + recent[2],
            lag=lag,
            fresh=max(0.0, float(max(ages))) if ages and None not in ages else None,
            read_at=now,
        )

    def _settle(self, connection: "psycopg.Connection[Any]", now: datetime) -> None:
        """Add what can no longer change to what is added up already, so that each reading is short.

        When the newest line of that is gone, an older ledger was restored: it is added up anew. (Its id alone says
        nothing: what lands after a restore is given the same ids.)
        """
        if self._newest is not None and connection.execute(_IS_THERE, self._newest).fetchone() is None:
            self._settled, self._settled_until, self._newest = (0, 0, 0), _EPOCH, None
        boundary = now - _SETTLED_AFTER
        if boundary - self._settled_until > _SETTLED_AFTER:
            row = self._sum(connection, now, self._settled_until, boundary)
            self._settled = (self._settled[0] + row[0], self._settled[1] + row[1], self._settled[2] + row[2])
            self._settled_until = boundary
            self._newest = connection.execute(_NEWEST, (boundary,)).fetchone()

    @staticmethod
    def _sum(
        connection: "psycopg.Connection[Any]", now: datetime, after: datetime, until: datetime
    ) -> tuple[int, int, int, int]:
        row = connection.execute(
            _SUMS, {"now": now, "window": _WINDOW, "after": after, "until": until}
        ).fetchone()
        return (int(row[0]), int(row[1]), int(row[2]), int(row[3])) if row else (0, 0, 0, 0)
