"""Commands to a running stack: an answer, a refusal in words, and no entry without the key."""

import secrets
import socket
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack import control
from analytics_pipeline.local_stack.control import Answer, ControlServer, Refused, ask
from analytics_pipeline.local_stack.detached import down, status
from analytics_pipeline.local_stack.state import NotRunning, Record, StateFolder


def handle(request: Answer) -> Answer:
    if request["command"] == "refuse":
        raise Refused("there is no service 'x'")
    return {"echo": request, "error": ""}  # as a service's description has it


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


@pytest.fixture
def server(folder: StateFolder) -> Iterator[ControlServer]:
    server = ControlServer(handle)
    folder.write(Record(control_port=server.port, control_key=server.key))
    with folder.lock():
        yield server
    server.close()


@pytest.mark.usefixtures("server")
def test_a_command_and_its_answer(folder: StateFolder) -> None:
    assert ask(folder, "stop", service="kafka")["echo"] == {"command": "stop", "service": "kafka"}


@pytest.mark.usefixtures("server")
def test_a_refusal_keeps_its_words(folder: StateFolder) -> None:
    with pytest.raises(Refused, match="no service 'x'"):
        ask(folder, "refuse")
    assert "echo" in ask(folder, "status")  # and the server goes on


def test_nobody_enters_without_the_key(server: ControlServer, folder: StateFolder) -> None:
    with pytest.raises(AuthenticationError):
        Client(("127.0.0.1", server.port), authkey=secrets.token_bytes(32))
    assert "echo" in ask(folder, "status")


def test_programs_that_look_for_something_else_keep_nobody_out(
    server: ControlServer, folder: StateFolder
) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.port)) as silent,
        socket.create_connection(("127.0.0.1", server.port)) as browser,
    ):
        browser.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(3):
            assert "echo" in ask(folder, "status")
        silent.settimeout(10)
        assert b"" in iter(lambda: silent.recv(4096), None), "let go in the end"


def test_a_port_that_says_nothing_is_not_waited_for(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as mute, folder.lock():
        folder.write(Record(control_port=mute.getsockname()[1], control_key="k"))
        with pytest.raises(EnvironmentFault, match="takes no commands"):
            ask(folder, "status")


def test_no_stack_is_told(folder: StateFolder) -> None:
    with pytest.raises(NotRunning, match="analytics up"):
        ask(folder, "status")
    assert status(folder)["is_running"] is False
    assert not any(down(folder, print))
