"""Requests that Schemathesis makes of the OpenAPI document, sent to the API as a process of its own, on real servers.

Belongs here: data to ask about, one run, what it may show. The short form is in `tests/integration`, the long one in
`tests/chaos`.
"""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.settings import environment
from analytics_pipeline.storage.api_keys import NewKey, create_key, new_key
from analytics_pipeline.storage.connection import connect
from analytics_pipeline.storage.definitions import put_definition
from b25_client.events import uuid7
from tests.integration.api_process import Process, started
from tests.integration.api_support import event, land, settle
from tests.schemathesis_hooks import KNOWN, OWN_KEY
from tests.waiting import wait_for

_LETTER = """
INSERT INTO dead_letter_events (batch_id, source, partition, source_offset, reason, fingerprint, value)
VALUES (1, 'order.events', 0, 0, 'bad_json', 'bad_json', '{') RETURNING id
"""
_ROOT = Path(__file__).parents[1]
OPTION = "--requests-seed"
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip


def run(database: str, redis: Redis, folder: Path, *, seconds: int, seed: int) -> dict[str, Counter[int]]:
    """Send requests for so long; returns how many answers of each status every operation gave.

    Raises:
        AssertionError: an answer is not as documented, or the API logged a defect.
    """
    print(f"seed {seed}")
    key, known = _fill(database)
    log = folder / "api.log"
    with (
        log.open("w") as output,
        started(
            database,
            log=output,
            B25_REDIS__ENABLED="true",
            B25_REDIS__HOST=redis.host,
            B25_REDIS__PORT=str(redis.port),
            B25_REDIS__PASSWORD=redis.password,
            B25_SECURITY__API_KEY_ENABLED="true",
            B25_SECURITY__RATE_LIMIT__ENABLED="false",
            B25_REALTIME__UPDATE_INTERVAL="100ms",
        ) as process,
    ):
        wait_for(lambda: process.ask("SERVER", "/ready")[0] == 200, timeout=60, message="/ready")
        statuses = _send(process, key, known, folder, seconds=seconds, seed=seed)
        assert process.ask("SERVER", "/ready")[0] == 200
        process.running.terminate()
        process.running.wait(timeout=30)
    lines = log.read_text().splitlines()
    unexpected = [
        line for line in lines if "request_failed" in line or "discarding closed connection" in line
    ]
    assert not unexpected, unexpected[:3]
    return statuses


def _fill(database: str) -> tuple[NewKey, dict[str, dict[str, str]]]:
    """Events of an hour, settled and pending, a dead letter, and definitions.

    Returns:
        A key that may do everything, and by path the parameters of something that is there.
    """
    now = datetime.now(UTC)
    known = uuid7(now)
    land(database, [event("order.placed", now) | {"id": known.bytes}])
    for number in range(3):
        land(
            database,
            [
                event(
                    kind,
                    now - timedelta(minutes=20 * number + n),
                    "user123",
                    symbol="BTCUSDT",
                    price=50_000 + n,
                )
                for n in range(20)
                for kind in ("order.placed", "order.filled", "custom.trading.signal")
            ],
        )
        if number == 1:
            settle(database)
    key = new_key("of generated requests", ["admin"], now=now)
    with connect(database, name="test") as connection:
        create_key(connection, key)
        for title in ("first", "second"):
            put_definition(connection, "custom.trading.signal", {"title": title})
        [letter] = connection.execute(_LETTER).fetchall()
        connection.commit()
    return key, {
        "/api/v1/events/{id}": {"id": str(known)},
        "/api/v1/dead-letters/{letter_id}": {"letter_id": str(letter[0])},
    }


def _send(
    process: Process, key: NewKey, known: dict[str, dict[str, str]], folder: Path, *, seconds: int, seed: int
) -> dict[str, Counter[int]]:
    report = folder / "report.ndjson"
    address = f"http://127.0.0.1:{process.ports['SERVER']}"
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis", "run", f"{address}/openapi.json",
            "--header", f"X-API-Key: {key.text}",
            "--checks", ",".join(CHECKS),
            "--seed", str(seed),
            "--max-time", str(seconds),
            "--request-timeout", "40",
            "--generation-database", "none",
            "--generation-with-security-parameters", "false",
            "--continue-on-failure",
            "--warnings", "off",
            "--suppress-health-check", "all",
            "--report", "ndjson", "--report-ndjson-path", report,
            "--no-color",
        ],
        cwd=folder,
        env=environment()
        | {
            "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks",
            "PYTHONPATH": str(_ROOT),
            OWN_KEY: key.id,
            KNOWN: json.dumps(known),
        },
        capture_output=True,
        text=True,
        timeout=seconds + 120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    paths = json.loads(process.ask("SERVER", "/openapi.json")[1])["paths"]
    statuses = _statuses(report, {f"{one.upper()} {path}" for path in paths for one in paths[path]})
    assert not sum(counted[401] for counted in statuses.values()), "the key held to the end"
    return statuses


def _statuses(report: Path, documented: set[str]) -> dict[str, Counter[int]]:
    """Other methods are tried, too, and left out."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    with report.open() as lines:
        for line in lines:
            recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
            for number, interaction in recorder.get("interactions", {}).items():
                case = recorder["cases"][number]["value"]
                answer = interaction.get("response")
                if answer is not None:
                    found[f"{case['method']} {case['path']}"][answer["status_code"]] += 1
    return {operation: found[operation] for operation in documented}


def show(statuses: dict[str, Counter[int]]) -> None:
    """A line for each operation, for the log of a run."""
    for operation, counted in sorted(statuses.items()):
        print(f"{operation}: " + ", ".join(f"{count}x {status}" for status, count in sorted(counted.items())))
