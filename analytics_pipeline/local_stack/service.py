"""What one supervised process is: its command, when it is ready, how it stops.

Belongs here: the description, as plain values.
Does not belong here: running it (`child`), deciding when (`supervisor`).
"""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Say = Callable[[str], None]
"""Tells the person who waits what takes long."""


def _nothing() -> None:
    return None


def _no_preparation(_: Say) -> None:
    return None


def _at_once() -> bool:
    return True


@dataclass(frozen=True)
class Account:
    """The system account a process steps down to."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Service:
    """One process of the stack.

    Attributes:
        name: as the user types it (`analytics restart kafka`).
        command: program and arguments; never through a shell.
        folder: its working directory.
        environment: the whole environment of the process.
        prepare: runs before every start (first-time set-up); may take long, says so, must be repeatable.
        is_ready: cheap probe, asked a few times a second until true; errors of a service that is not up yet
            are its business, it answers False.
        once_ready: runs after each time it became ready (create role and database); must be repeatable.
        stop_signal: asks for an orderly end; SIGKILL follows after `stop_timeout` seconds.
        ready_timeout: seconds until a start counts as failed.
        account: the account to run as when this process is root and the program refuses to be.
        ports: the addresses it will listen on, by the setting that chooses each.
    """

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    prepare: Callable[[Say], None] = _no_preparation
    is_ready: Callable[[], bool] = _at_once
    once_ready: Callable[[], None] = _nothing
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 30.0
    ready_timeout: float = 60.0
    account: Account | None = None
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict)
