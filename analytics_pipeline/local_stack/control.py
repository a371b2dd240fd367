"""How `analytics stop|start|restart|status|down` speak to the running supervisor: one request, one answer.

Requests and answers are JSON, on a loopback port; `multiprocessing.connection` frames them and lets nobody in who
doesn't know the key in `stack.json`. (A Unix socket would end at 107 bytes of path.)

Belongs here: the line. Does not belong here: what commands do (`supervisor`).
"""

import json
import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from typing import Any

from analytics_pipeline.errors import AnalyticsError, EnvironmentFault
from analytics_pipeline.local_stack.state import StateFolder

Answer = dict[str, Any]
Handler = Callable[[Answer], Answer]

_LOOPBACK = "127.0.0.1"
_PATIENCE = 5
"""Seconds in which the other side has to say who it is: a port is found by programs that look for something else."""


class Refused(AnalyticsError):
    """The running stack did not do what it was asked to; its own words say why."""


class ControlServer:
    """Takes requests while the supervisor runs; each is handled in a thread of its own."""

    def __init__(self, handle: Handler) -> None:
        self.key = secrets.token_hex(32)
        self._handle = handle
        self._is_closed = False
        # Without the key: `accept` would wait for one that says nothing, and nobody else would be heard.
        self._listener = Listener((_LOOPBACK, 0))
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The loopback port."""
        return int(self._listener.address[1])

    def close(self) -> None:
        """Take no more requests."""
        self._is_closed = True
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                if self._is_closed:
                    return
                continue
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: "Connection[Any, Any]") -> None:
        with connection:
            try:
                _limit(connection)
                deliver_challenge(connection, self.key.encode())
                answer_challenge(connection, self.key.encode())
                request = json.loads(connection.recv_bytes(65536))
                answer = self._handle(request)
            except AnalyticsError as error:
                answer = {"refused": str(error)}
            except (OSError, EOFError, ValueError, AuthenticationError):
                return
            try:
                connection.send_bytes(json.dumps(answer).encode())
            except OSError:
                return


def _limit(connection: "Connection[Any, Any]") -> None:
    """Let no read take longer than `_PATIENCE`; `poll` waits as long as it is told to."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _PATIENCE, 0))


def ask(folder: StateFolder, command: str, *, timeout: float = 120.0, **arguments: str) -> Answer:
    """Ask the stack that runs in `folder`.

    Raises:
        NotRunning: there is none; a `LeftOver` where one was killed and its processes run on.
        Refused: it answered with an error.
        EnvironmentFault: it did not answer within `timeout` seconds.
    """
    if not folder.is_locked:
        raise folder.not_running()
    record = folder.read()
    try:
        with Client((_LOOPBACK, record.control_port)) as connection:
            _limit(connection)
            answer_challenge(connection, record.control_key.encode())
            deliver_challenge(connection, record.control_key.encode())
            connection.send_bytes(json.dumps({"command": command, **arguments}).encode())
            if not connection.poll(timeout):
                raise EnvironmentFault(f"the stack in {folder.path} did not answer within {timeout:.0f} s")
            answer: Answer = json.loads(connection.recv_bytes())
    except (OSError, EOFError, AuthenticationError) as error:
        raise EnvironmentFault(
            f"the stack in {folder.path} is starting or stopping and takes no commands: try again in a moment"
        ) from error
    if "refused" in answer:
        raise Refused(answer["refused"])
    return answer
