"""What long work shows: on a terminal, on stderr, and nothing anywhere else."""

import pytest

from analytics_pipeline.cli.progress import working


def test_a_terminal_sees_what_is_being_done_and_what_becomes_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with working("looking up messages") as tell:
        tell("42 of 100 messages")
    out, err = capsys.readouterr()
    assert out == ""
    assert "42 of 100 messages" in err


def test_a_pipe_sees_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    with working("looking up messages") as tell:
        tell("42 of 100 messages")
    assert capsys.readouterr() == ("", "")
