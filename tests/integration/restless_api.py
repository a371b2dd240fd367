"""The API as a process of its own, on one port, that a test kills and starts at will."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.settings import environment
from tests.waiting import wait_for

_ROOT = Path(__file__).parents[2]


class Api:
    """`python -m api` on one port, killed and started at will."""

    def __init__(self, database: str, **changes: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._variables = environment() | {
            "B25_DATABASE__URL": database,
            "B25_REDIS__ENABLED": "false",
            "B25_SERVER__PORT": self.url.rpartition(":")[2],
            "B25_METRICS__ENABLED": "false",
            "B25_HEALTH__ENABLED": "false",
            "PYTHONPATH": str(_ROOT),
            **changes,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "api"],
            cwd=_ROOT,
            env=self._variables,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            try:
                return httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(is_ready, 60, "the API is ready")

    def kill(self) -> None:
        """SIGKILL, its workers too."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def running_api(database: str, **changes: str) -> Iterator[Api]:
    made = Api(database, **changes)
    made.start()
    try:
        made.wait_until_ready()
        yield made
    finally:
        made.kill()
