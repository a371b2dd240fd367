"""Posting without a pause, and remembering every event that was accepted: what the inbox must have landed later."""

import random
import threading
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.chaos.books import compare
from tests.integration.api_process import Process
from tests.integration.landing_rig import rows, value
from tests.waiting import wait_for

_PAUSE = 0.03
_NO_ID, _AGAIN, _TWIN = 0.1, 0.05, 0.03
_ACCEPTED = "SELECT coalesce(sum(accepted), 0)::bigint FROM http_accepted"
_LANDED = """
SELECT coalesce(sum(read), 0)::bigint, coalesce(sum(stored), 0)::bigint, coalesce(sum(duplicate), 0)::bigint,
    coalesce(sum(dead), 0)::bigint
FROM ingest_batches WHERE source = 'http'
"""


class Posts:
    """Posts arrays to a process of the API from a thread of its own, as long as the block lasts.

    Some events have no id, some were posted before, some come twice in one array.

    Attributes:
        accepted: ids that were answered, as often as they were.
    """

    def __init__(self, api: Process, database: str, event_type: str, rng: random.Random) -> None:
        self.accepted: Counter[str] = Counter()
        self._api, self._database, self._event_type = api, database, event_type
        self._rng = random.Random(rng.getrandbits(64))
        self._again: list[dict[str, Any]] = []
        self._errors: list[str] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="posts", daemon=True)
        wait_for(lambda: api.ask("HEALTH", "/ready")[0] == 200, 60, "the API is ready")
        # Other tests have used this database.
        self._before = self._totals()

    def __enter__(self) -> "Posts":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Stop, and wait for the last answer."""
        self._is_over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self._errors == []

    @property
    def waiting(self) -> int:
        """Events that nobody has landed yet."""
        return int(value(self._database, "SELECT coalesce(sum(events), 0)::bigint FROM http_inbox"))

    def check(self) -> None:
        """Wait until all have landed; every accepted id is stored once, and the ledger counts each event that came."""
        wait_for(lambda: self.waiting == 0, 60, "the inbox is empty")
        stored = rows(self._database, "SELECT id::text FROM events WHERE event_type = %s", self._event_type)
        compare("posted events", Counter(one for (one,) in stored), Counter(self.accepted.keys()))
        came, once = self.accepted.total(), len(self.accepted)
        assert came > once, "nothing was posted twice"
        found = tuple(now - then for now, then in zip(self._totals(), self._before, strict=True))
        assert found == (came, came, once, came - once, 0), "accepted, read, stored, duplicate, dead"

    def _totals(self) -> tuple[int, ...]:
        return (value(self._database, _ACCEPTED), *rows(self._database, _LANDED)[0])

    def _run(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self._api.ports['SERVER']}", timeout=30) as client:
            while not self._is_over.wait(_PAUSE):
                try:
                    self._post(client)
                except (httpx.HTTPError, AssertionError) as error:
                    self._errors.append(repr(error))
                    return

    def _post(self, client: httpx.Client) -> None:
        events = [self._make() for _ in range(self._rng.randint(2, 20))]
        events += [event for event in events if "id" in event and self._rng.random() < _TWIN]
        answer = client.post("/api/v1/events", json=events)
        assert answer.status_code == 201, answer.text
        for event, one in zip(events, answer.json()["results"], strict=True):
            assert one["event_id"] == event.get("id", one["event_id"])
            self.accepted[one["event_id"]] += 1
        self._again += [event for event in events if "id" in event and self._rng.random() < 0.1]

    def _make(self) -> dict[str, Any]:
        if self._again and self._rng.random() < _AGAIN:
            return self._rng.choice(self._again)
        event = {
            "event_type": self._event_type,
            "user_id": f"u{self._rng.randrange(50)}",
            "properties": {"symbol": "BTCUSDT", "price": self._rng.randrange(1, 10_000) / 100},
            "timestamp": datetime.now(UTC).isoformat(),
        }
        if self._rng.random() >= _NO_ID:
            event["id"] = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        return event
