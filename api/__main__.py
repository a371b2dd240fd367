"""The API's process: granian with its workers, and the two small servers beside it.

Belongs here: starting and stopping. Does not belong here: the application (`app`).
"""

import multiprocessing
import socket
import sys
import tempfile
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from analytics_pipeline import logs, tracing
from analytics_pipeline.errors import AnalyticsError, EnvironmentFault
from analytics_pipeline.settings import SHARED_FOLDER, Settings, environment, load_settings, project_file
from api.side_servers import health_app, metrics_app, serve_beside
from api.worker import load

_log = structlog.get_logger()


def run(settings: Settings, *, reload: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. A port that is 0 becomes a free one.

    Raises:
        EnvironmentFault: a port is taken.
        ConfigurationError: traces are asked for, and their packages are not there.
    """
    logs.configure(settings.logging, service="api")
    if settings.tracing.enabled:
        tracing.require()  # here: a worker that fails at this would be started again and again
    settings = with_ports(settings)
    _check_port(settings.server.host, settings.server.port)
    # Spawned, not forked: this process has threads.
    multiprocessing.set_start_method("spawn", force=True)
    with tempfile.TemporaryDirectory(prefix="b25-metrics-") as own_folder:
        shared = settings.metrics.folder or environment().get(SHARED_FOLDER) or own_folder
        folder = Path(shared)
        folder.mkdir(parents=True, exist_ok=True)
        if settings.metrics.enabled:
            app = metrics_app(folder, settings.metrics.path)
            serve_beside(settings.metrics.host, settings.metrics.port, "metrics.port", app)
        if settings.health.enabled:
            serve_beside(settings.health.host, settings.health.port, "health.port", health_app(settings))
        try:
            server = _server(settings, reload=reload)
            server.serve(target_loader=partial(load, settings, folder, server.stopping), wrap_loader=False)
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1
    return 0


class _Server(MPServer):
    """Tells its workers of the stop before they wait for open requests: a stream would never end by itself."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stopping = multiprocessing.get_context("spawn").Event()

    def signal_handler_interrupt(self, *arguments: Any, **options: Any) -> None:
        self.stopping.set()
        super().signal_handler_interrupt(*arguments, **options)  # type: ignore[no-untyped-call]


def _server(settings: Settings, *, reload: bool) -> _Server:
    read_timeout = max(1_000, int(settings.server.read_timeout.total_seconds() * 1000))
    return _Server(
        "api.app:create_app",
        address=settings.server.host,
        port=settings.server.port,
        interface=Interfaces.ASGI,
        workers=settings.server.workers,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=read_timeout),
        websockets=False,
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        workers_kill_timeout=max(1, int(settings.server.shutdown_timeout.total_seconds())),
        reload=reload,
        reload_paths=[project_file("api"), project_file("analytics_pipeline")] if reload else None,
    )


def with_ports(settings: Settings) -> Settings:
    """The settings with a free port for each that is 0, which the log tells: server, metrics, health."""
    chosen: dict[str, int] = {}
    update = {}
    for name in ("server", "metrics", "health"):
        section = getattr(settings, name)
        if section.port == 0 and getattr(section, "enabled", True):
            chosen[name] = _free_port(name, section.host, chosen.values())
            update[name] = section.model_copy(update={"port": chosen[name]})
            _log.info("took a free port", setting=f"{name}.port", host=section.host, port=chosen[name])
    return settings.model_copy(update=update)


def _free_port(section: str, host: str, taken: Collection[int]) -> int:
    """A port that the kernel picks; granian opens its own sockets, so it has to be told a number."""
    try:
        while (port := _bound(host, 0)) in taken:
            pass
    except OSError as error:
        raise EnvironmentFault(
            f"nothing can listen on {host} ({error.strerror}): change {section}.host"
        ) from error
    return port


def _check_port(host: str, port: int) -> None:
    """Granian would only log that the port is taken."""
    try:
        _bound(host, port)
    except OSError as error:
        raise EnvironmentFault(
            f"port {port} on {host} cannot be used ({error.strerror}): change server.port (0: any free one) or "
            "server.host"
        ) from error


def _bound(host: str, port: int) -> int:
    """Bind a port for a moment, the kernel's choice for 0; which it was."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    try:
        code = run(load_settings())
    except AnalyticsError as error:
        sys.stderr.write(f"{error}\n")
        code = error.exit_code
    raise SystemExit(code)
