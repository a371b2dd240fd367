"""Running `analytics` in this process, as its entry point does."""

from collections.abc import Sequence

import pytest

from analytics_pipeline import cli


def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: Sequence[str]
) -> tuple[int, str, str]:
    """Exit code, output and error output of `words`, the first being the program's name."""
    monkeypatch.setattr("sys.argv", list(words))
    try:
        code = cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    captured = capsys.readouterr()
    return code, captured.out, captured.err
