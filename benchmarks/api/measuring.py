"""One case under load, and whether its answers were right: only then there is a figure.

Belongs here: checks before, during and after a run, and what the run cost. Does not belong here: what is asked
(`questions`), which servers there are (`servers`).
"""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from benchmarks.api import wrk
from benchmarks.api.questions import NUMBER, Case
from benchmarks.api.servers import Running
from benchmarks.costs import Costs
from tests.waiting import wait_for

_TOLERANCE = 64
"""Bytes by which answers of one case differ: numbers of more or fewer digits, ids of requests."""


WARM_UP = 200
"""Most questions that each case without a cache asks before it is measured, one of each path: what they touch has then
been read from the disk, and the figures are those of the API."""


class Wrong(Exception):
    """Answers were not right: there is no figure."""


class _Seen(NamedTuple):
    """An answer that was looked at: its bytes with its head, and how long it took."""

    size: int
    ms: float


class Meter:
    """Measures cases on one machine."""

    def __init__(self, program: wrk.Program, folder: Path, others: dict[str, int], *, seconds: float) -> None:
        """Take the load generator, a folder, and the processes that count beside the API, by name."""
        self._program = program
        self._folder = folder
        self._others = others
        self._seconds = seconds
        self._numbers: Counter[str] = Counter()

    def measure(self, case: Case, running: Running, connections: int) -> dict[str, Any]:
        """The figures, or under `no_figure` why there is none."""
        try:
            return self._measure(case, running, connections)
        except Wrong as problem:
            return {"no_figure": str(problem)}

    def _measure(self, case: Case, running: Running, connections: int) -> dict[str, Any]:
        tag = self._tag(case, running) if case.is_revalidated else {}
        size, first_ms = self._check(case, running, tag)
        if not case.is_fixed and not case.post:
            for path in case.paths[:WARM_UP]:
                running.get(self._numbered(case, path))
        before = running.queries() if case.query else {}
        load, costs, began = self._load(case, running, connections, tag)
        if load.refused or load.broken:
            raise Wrong(
                f"of {load.requests} answers {load.refused} were refusals, {load.broken} connections failed"
            )
        if load.wrong:
            raise Wrong(f"of {load.requests} answers {load.wrong} were wrong")
        if not load.requests:
            raise Wrong("there was no answer in time")
        if case.is_fixed and abs(load.bytes / load.requests - size) > _TOLERANCE:
            raise Wrong(
                f"an answer has {load.bytes / load.requests:.0f} bytes on average, a right one {size}"
            )
        if case.query:
            ran = running.queries()[f'query="{case.query}"'] - before.get(f'query="{case.query}"', 0)
            if not load.requests <= ran:
                raise Wrong(f"{load.requests} answers came of {ran} queries")
        self._check(case, running, tag)
        cpu = costs.cpu_seconds(began, began + load.seconds)
        return {
            "requests_per_second": round(load.requests / load.seconds),
            "p50_ms": load.p50,
            "p99_ms": load.p99,
            "longest_ms": load.longest,
            "first_ms": round(first_ms, 2),
            "requests": load.requests,
            "bytes": round(load.bytes / load.requests),
            "cpu_us_per_request": {name: round(value / load.requests * 1e6) for name, value in cpu.items()},
            "cores_elsewhere": round(costs.cores_elsewhere(began, began + load.seconds), 2),
        }

    def _load(
        self, case: Case, running: Running, connections: int, headers: Mapping[str, str]
    ) -> tuple[wrk.Load, Costs, float]:
        is_varied = len(case.paths) > 1 or NUMBER in case.paths[0]
        file = wrk.write_paths(self._folder / "paths", case.paths) if is_varied else None
        started = wrk.start(
            self._program, running.url + ("/" if is_varied else case.paths[0]), connections=connections,
            seconds=self._seconds, headers={**running.headers, **headers}, paths=file,
            number=self._numbers[case.name],
            # Looking into every answer costs the client more than these cost the server.
            body="" if case.is_fixed else case.body, cache="" if case.is_fixed else case.cache, post=case.post,
        )  # fmt: skip
        began = time.time()
        with Costs({"api": running.pid, **self._others, "client": started.pid}) as costs:
            load = wrk.result(started)
        self._numbers[case.name] += load.requests + connections
        return load, costs, began

    def _tag(self, case: Case, running: Running) -> dict[str, str]:
        """What a client sends that has the answer already."""
        return {"If-None-Match": self._answer(case, running, case.paths[0]).headers["etag"]}

    def _check(self, case: Case, running: Running, headers: Mapping[str, str]) -> _Seen:
        """Look at one answer as a whole."""
        if case.post:
            answer = httpx.post(running.url + case.paths[0], content=case.post, headers=running.headers)
            if answer.status_code != 201 or not case.check(answer.json()):
                raise Wrong(f"POST was answered {answer.status_code}")
            return _seen(answer)
        path = self._numbered(case, case.paths[0])
        if case.is_revalidated:
            answer = running.get(path, **headers)
            if answer.status_code != 304 or answer.content:
                raise Wrong(f"instead of 304 the answer was {answer.status_code}")
            return _seen(answer)
        answer = self._answer(case, running, path)
        if answer.status_code != 200:
            raise Wrong(f"the answer was {answer.status_code}: {answer.json()['detail']}")
        if not case.check(answer.json()):
            raise Wrong(f"the answer to {path} is not right")
        return _seen(answer)

    def _numbered(self, case: Case, path: str) -> str:
        """A path that nobody has asked for yet."""
        self._numbers[case.name] += 1
        return path.replace(NUMBER, f"{self._numbers[case.name]:06d}")

    def _answer(self, case: Case, running: Running, path: str) -> httpx.Response:
        """One answer: a hit where that is wanted, and not the 503 of a queue that an earlier run has left behind."""
        found: list[httpx.Response] = []

        def is_settled() -> bool:
            found.append(running.get(path))
            is_as_wanted = case.cache != "hit" or found[-1].headers.get("x-cache") == "hit"
            return found[-1].status_code != 503 and (is_as_wanted or found[-1].status_code != 200)

        wait_for(is_settled, 15, f"an answer to {path}")
        return found[-1]


def _seen(answer: httpx.Response) -> _Seen:
    head = sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)
    size = len(f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}\r\n\r\n") + head + len(answer.content)
    return _Seen(size, answer.elapsed.total_seconds() * 1000)
