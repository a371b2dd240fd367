"""An export of any size takes no more memory of the service than a small one."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from tests.integration.api_process import Process, started
from tests.integration.api_support import iso
from tests.integration.databases import database_copy
from tests.waiting import wait_for

MIB = 1 << 20
FEW, MANY = 10_000, 100_000
START = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)
MOST_MORE = 12 * MIB
"""Ten times the events weigh some 30 MB more on the way."""


@pytest.fixture(scope="module")
def process(postgres: Postgres, template_database: str) -> Iterator[Process]:
    with database_copy(postgres, template_database, "export_memory") as database:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO events (event_type, properties, timestamp)"
                " SELECT 'a.b', jsonb_build_object('n', n, 'x', repeat('x', 300)),"
                " %s::timestamptz + n * interval '1 ms' FROM generate_series(0, %s) AS n",
                (START, MANY - 1),
            )
        with started(database) as running:
            wait_for(lambda: running.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
            yield running


def peak(process: Process, form: str, count: int) -> int:
    """Bytes that the processes of the service had at the most while this was read."""
    root = psutil.Process(process.running.pid)
    folders = [Path("/proc", str(one.pid)) for one in (root, *root.children(recursive=True))]
    for folder in folders:
        (folder / "clear_refs").write_text("5")  # the peak is that from now on
    with ExitStack() as stack:
        answer = stack.enter_context(
            httpx.stream(
                "GET",
                f"http://127.0.0.1:{process.ports['SERVER']}/api/v1/events",
                params={
                    "format": form,
                    "start_time": iso(START),
                    "end_time": iso(START + timedelta(milliseconds=count)),
                },
                timeout=120,
            )
        )
        assert answer.status_code == 200, answer.read()
        size = sum(len(piece) for piece in answer.iter_bytes())
        assert size > count * 100
    return sum(
        int(line.split()[1]) * 1024
        for folder in folders
        for line in (folder / "status").read_text().splitlines()
        if line.startswith("VmHWM")
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "ndjson", "arrow"])
def test_memory_is_that_of_a_piece(process: Process, form: str) -> None:
    peak(process, form, FEW)
    few, many = peak(process, form, FEW), peak(process, form, MANY)
    print(f"{form}: {few / MIB:.0f} MiB for {FEW:,} events, {many / MIB:.0f} for {MANY:,}")
    assert many - few < MOST_MORE
