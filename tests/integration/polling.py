"""A reader that asks over and over, in a thread and on connections of its own, what a day's buckets hold.

Belongs here: reading, and what each answer must be in itself. Does not belong here: who writes meanwhile.
"""

import contextlib
import itertools
import math
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import psycopg

from analytics_pipeline.rollups.catalog import Catalog
from analytics_pipeline.storage.connection import connection
from tests.integration.stepping import LIMIT
from tests.oracle.reads import Question, Reads

NAMES = ("events.count", "trading.total_volume", "trading.order_latency")

_VIEW = """
SELECT interval, time_bucket, metric_name, metric_id, dimension_set, dimensions::text, count, sum
FROM metrics_live
WHERE time_bucket >= %(first)s AND time_bucket < %(end)s
    AND (metric_name LIKE 'events.count%%' OR metric_name = ANY(%(names)s))
ORDER BY 1, 2, 3, 4, 5, 6
"""

Key = tuple[str, ...]
Seen = tuple[Any, ...] | None


class Poller:
    """Reads a UTC day until it is stopped; `changes` holds what each bucket was, one after the other.

    In one statement it reads a total and all of its groups, of three metrics at all five intervals; then it asks the
    API, for a quantile and for the volume of each symbol by turns. A bucket that is not there any more is None.
    """

    def __init__(self, conninfo: str, day: datetime, *, catalog: Catalog) -> None:
        self.changes: dict[Key, list[Seen]] = {}
        self.mistakes: list[str] = []
        self.reads = 0
        self._conninfo, self._catalog = conninfo, catalog
        self._span = {"first": day, "end": day + timedelta(days=1), "names": list(NAMES)}
        end = day + timedelta(days=1)
        self._questions = [
            Question("trading.order_latency", "1h", "p95", None, day, end),
            Question("trading.total_volume", "1d", "sum", "symbol", day, end),
        ]
        self._read_again = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._poll, name="poller", daemon=True)

    def __enter__(self) -> "Poller":
        self._thread.start()
        for _ in self._questions:
            self.look()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError):  # the thread has failed; `mistakes` says why
            for _ in self._questions:
                self.look()
        self._is_stopped = True
        self._thread.join(LIMIT)
        assert not self.mistakes, "\n".join(self.mistakes[:3])

    def look(self) -> None:
        """Wait until it has read all buckets once, from now on."""
        with self._read_again:
            enough = self.reads + 2  # one may be under way
            assert self._read_again.wait_for(lambda: self.reads >= enough, LIMIT), "the reader reads no more"

    def _poll(self) -> None:
        reads = Reads(self._conninfo)
        try:
            with connection(self._conninfo, name="poller", autocommit=True) as opened:
                for asked in itertools.cycle(self._questions):
                    if self._is_stopped:
                        break
                    seen = {**self._live(opened), **self._asked(reads, asked)}
                    for key in self.changes.keys() | seen.keys():
                        if key[0] == "api" and key[1] != asked.metric_name:
                            continue
                        known = self.changes.setdefault(key, [])
                        if not known or known[-1] != seen.get(key):
                            known.append(seen.get(key))
                    with self._read_again:
                        self.reads += 1
                        self._read_again.notify_all()
        except Exception as error:  # noqa: BLE001  (the test fails with it)
            self.mistakes.append(f"the reader failed: {error!r}")
        finally:
            reads.close()

    def _live(self, opened: psycopg.Connection[Any]) -> dict[Key, Seen]:
        found: dict[Key, list[Any]] = {}
        for level, at, name, *row in opened.execute(_VIEW, self._span):
            base = "events.count" if name.startswith("events.count") else name
            found.setdefault((level, at.isoformat(), base), []).append((name, *row))
        for key, rows in found.items():
            self._add_up(key, rows)
        return {key: tuple(rows) for key, rows in found.items()}

    def _add_up(self, key: Key, rows: list[Any]) -> None:
        """The groups of each dimension are the total, and all are of one definition."""
        sums: dict[str, tuple[int, float]] = {}
        for _, _, dimension_set, _, count, total in rows:
            before = sums.get(dimension_set, (0, 0.0))
            sums[dimension_set] = before[0] + count, before[1] + (total or 0)
        count, total = sums.get("", (0, 0.0))
        if any(found[0] != count or not math.isclose(found[1], total) for found in sums.values()):
            self.mistakes.append(f"{key}: total and groups do not agree: {sums}")
        if len({metric_id for _, metric_id, *_ in rows}) > 1:
            self.mistakes.append(f"{key} is answered by two definitions")

    def _asked(self, reads: Reads, asked: Question) -> dict[Key, Seen]:
        reads.reload()
        found: dict[Key, list[Any]] = {}
        for point in reads.points(self._catalog, asked):
            key = ("api", asked.metric_name, asked.interval, point.timestamp.isoformat())
            found.setdefault(key, []).append((point.dimensions, point.value))
        return {key: tuple(points) for key, points in found.items()}


@contextlib.contextmanager
def looking_between_statements(poller: Poller, writer: str) -> Iterator[None]:
    """Let the reader read everything before each statement that the thread of this name sends."""

    def before(real: Any) -> Any:
        def statement(*arguments: Any, **named: Any) -> Any:
            if threading.current_thread().name == writer:
                poller.look()
            return real(*arguments, **named)

        return statement

    with (
        mock.patch.object(psycopg.Cursor, "execute", before(psycopg.Cursor.execute)),
        mock.patch.object(psycopg.Cursor, "copy", before(psycopg.Cursor.copy)),
    ):
        yield
