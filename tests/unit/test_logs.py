"""Log lines: one event a line, the same for our own and for libraries, in every format."""

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from analytics_pipeline import logs
from analytics_pipeline.settings import Logging


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("name", ["json", "logfmt", "console"])
def test_one_line_an_event_with_its_values(
    name: Literal["json", "logfmt", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(Logging(format=name), service="ingest")
    structlog.get_logger("a").info("batch landed", topic="t", rows=5)
    logging.getLogger("library").warning("careful")
    structlog.get_logger("a").debug("not shown")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("ingest" in line for line in lines)
    assert "batch landed" in lines[0]
    assert "careful" in lines[1]
    if name == "json":
        found = json.loads(lines[0])
        assert (found["event"], found["topic"], found["rows"], found["level"]) == (
            "batch landed",
            "t",
            5,
            "info",
        )


def test_a_traceback_stays_with_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Logging(format="json"), service="ingest")
    try:
        raise ValueError("a bug")
    except ValueError as error:
        structlog.get_logger("a").error("failed", exc_info=error)
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"][0]["exc_value"] == "a bug"


@pytest.mark.parametrize("name", ["json", "logfmt", "console"])
def test_a_traceback_tells_no_values(
    name: Literal["json", "logfmt", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(Logging(format=name), service="api")

    def answer(headers: dict[str, str]) -> None:
        raise ValueError(f"a bug with {len(headers)} header")

    try:
        answer({"x-api-key": "hun" + "ter2"})
    except ValueError:
        structlog.get_logger("a").exception("request_failed")
    text = capsys.readouterr().err
    assert "a bug with 1 header" in text
    assert "hunter2" not in text
