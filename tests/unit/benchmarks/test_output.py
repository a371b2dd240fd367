"""Benchmarks print a table and write JSON, and say where."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks import output

BENCHMARKS = {
    "benchmarks.ingest": "ingest",
    "benchmarks.post": "post",
    "benchmarks.api.__main__": "api",
    "benchmarks.rollup": "rollup",
    "benchmarks.dagster_ui": "dagster",
}


@pytest.mark.parametrize(("module", "name"), BENCHMARKS.items())
def test_each_benchmark_has_a_file_for_its_figures(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = importlib.import_module(module)
    monkeypatch.setattr(sys, "argv", [module])
    path = found._arguments().json
    assert re.fullmatch(rf"\.analytics-bench/{name}-\d{{8}}T\d{{6}}Z\.json", str(path))
    assert path.parent.is_dir(), "before anything is measured"
    monkeypatch.setattr(sys, "argv", [module, "--json", "deep/er/mine.json"])
    assert found._arguments().json == Path("deep/er/mine.json")
    assert Path("deep/er").is_dir()
    for impossible in ("deep", "deep/er/mine.json/x"):
        Path("deep/er/mine.json").touch()
        monkeypatch.setattr(sys, "argv", [module, "--json", impossible])
        with pytest.raises(SystemExit, match=r"^error: --json: deep.* cannot be written"):
            found._arguments()


def test_git_ignores_the_folder() -> None:
    ignored = (Path(__file__).parents[3] / ".gitignore").read_text().splitlines()
    assert f"{output.FOLDER}/" in ignored


def test_the_last_line_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    output.conclude(path, {"runs": [1]}, "a table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a table"
    assert lines[-1] == f"every figure is in {path}"
    assert json.loads(path.read_text()) == {"runs": [1]}
