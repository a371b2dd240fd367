"""With a wrong declaration no process starts, and each says so in the same sentences."""

import shutil
import subprocess
import sys
from pathlib import Path

from analytics_pipeline.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
CATALOG = "analytics_pipeline/rollups/catalog.py"
PROGRAMS = [
    ("analytics_pipeline", "ingest"),
    ("analytics_pipeline", "api"),
    ("dagster", "definitions", "validate", "-m", "analytics_pipeline.definitions"),
]


def test_every_process_refuses_a_wrong_catalog_in_the_same_sentences(tmp_path: Path) -> None:
    for package in ("analytics_pipeline", "api"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "target")
        )
    source = (tmp_path / CATALOG).read_text()
    line = source[: source.index('name="trading.total_volume"')].count("\n")  # of `Metric(`, one before
    wrong = source.replace('value="price * quantity"', 'value="prize * quantity"', 1).replace(
        'unit="quote"', 'unit=""', 1
    )
    (tmp_path / CATALOG).write_text(wrong)
    at = f"{tmp_path / CATALOG}:{line}: metric 'trading.total_volume': "
    sentences = [
        f"{at}it has no unit in one word",
        f"{at}its value names prize, which is no column of events: did you mean",
    ]

    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *program],
            cwd=tmp_path,
            env={},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for program in PROGRAMS
    ]
    for program, process in zip(PROGRAMS, processes, strict=True):
        out, err = process.communicate(timeout=100)
        assert [one for one in sentences if one not in out + err] == [], (program, out, err)
        if program[0] == "dagster":
            assert process.returncode != 0
        else:
            assert (process.returncode, out) == (ConfigurationError.exit_code, ""), program
            assert err.count("\n") == len(sentences), (program, err)
