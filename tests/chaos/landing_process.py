"""Landing processes, forked (`forks`).

What runs is what `python -m analytics_pipeline.ingest` runs.
"""

import os
import signal
import sys
from pathlib import Path

import psutil

from analytics_pipeline import failpoints
from analytics_pipeline.failpoints import FailPoint, Fault
from analytics_pipeline.ingest.__main__ import run
from analytics_pipeline.settings import adopt, settings
from tests.chaos.forks import FORKS
from tests.waiting import wait_for


class LandingProcess:
    """One process at a time; its log is appended to `<name>.log` beside the configuration."""

    def __init__(self, config: Path, name: str = "landing") -> None:
        self.config = config
        self._log = config.parent / f"{name}.log"
        self._log.touch()
        self._process = FORKS.Process(target=_land)

    def start(self, point: FailPoint | None = None, fault: Fault = Fault.KILL, passage: int = 1) -> None:
        assert not self.is_running
        fail_at = f"{point}:{fault}:{passage}" if point else ""
        self._process = FORKS.Process(
            target=_land, args=(str(self.config), str(self._log), fail_at), daemon=True
        )
        self._process.start()

    @property
    def is_running(self) -> bool:
        return self._process.pid is not None and self._process.is_alive()

    @property
    def is_frozen(self) -> bool:
        try:
            return psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def assignments(self) -> int:
        """How often Kafka has given it partitions."""
        return self.log.count("partitions assigned")

    def kill(self) -> bool:
        """SIGKILL; whether it was that which ended it."""
        self._process.kill()
        self._process.join()
        return self._process.exitcode == -signal.SIGKILL

    def freeze(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)
        wait_for(lambda: self.is_frozen, 10, "it is frozen")

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def end(self) -> None:
        """SIGTERM, not waited for."""
        os.kill(self._pid, signal.SIGTERM)

    def wait(self, timeout: float = 30) -> int:
        """Until it has ended; its exit code."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"it is still running:\n{self.log[-3000:]}"
        return self._process.exitcode

    def stop(self, timeout: float = 30) -> int:
        """SIGTERM, and its exit code."""
        self.end()
        return self.wait(timeout)

    def close(self) -> None:
        if self.is_running:
            self.kill()

    @property
    def _pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid


def _land(config: str, log: str, fail_at: str) -> None:
    with Path(log).open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    adopt({"B25_CONFIG": config, failpoints.VARIABLE: fail_at})
    sys.exit(run(settings()))
