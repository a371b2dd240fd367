"""With a wrong declaration no process starts, and each says so in the same sentences."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analytics_pipeline.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
CATALOG = "analytics_pipeline/rollups/catalog.py"
PROGRAMS = [
    ("analytics_pipeline", "ingest"),
    ("analytics_pipeline", "api"),
    ("dagster", "definitions", "validate", "-m", "analytics_pipeline.definitions"),
]


COMMAND = ("analytics_pipeline", "metrics", "docs")
MEND = "mend this line, or the one before it; Python says:"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the source, to make mistakes in."""
    for package in ("analytics_pipeline", "api"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "target")
        )
    return tmp_path


def start(checkout: Path, program: tuple[str, ...]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", *program],
        cwd=checkout,
        env={},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused_by_all(checkout: Path, sentences: list[str]) -> None:
    processes = [start(checkout, program) for program in PROGRAMS]
    for program, process in zip(PROGRAMS, processes, strict=True):
        out, err = process.communicate(timeout=100)
        assert [one for one in sentences if one not in out + err] == [], (program, out, err)
        if program[0] == "dagster":
            assert process.returncode != 0
        else:
            assert (process.returncode, out) == (ConfigurationError.exit_code, ""), program
            assert err.count("\n") == len(sentences), (program, err)


def test_every_process_refuses_a_wrong_catalog_in_the_same_sentences(checkout: Path) -> None:
    source = (checkout / CATALOG).read_text()
    line = source[: source.index('name="trading.total_volume"')].count("\n")  # of `Metric(`, one before
    wrong = source.replace('value="price * quantity"', 'value="prize * quantity"', 1).replace(
        'unit="quote"', 'unit=""', 1
    )
    (checkout / CATALOG).write_text(wrong)
    at = f"{checkout / CATALOG}:{line}: metric 'trading.total_volume': "
    refused_by_all(
        checkout,
        [
            f"{at}it has no unit in one word",
            f"{at}its value names prize, which is no column of events: did you mean",
        ],
    )


def test_every_process_says_where_the_catalog_is_no_python(checkout: Path) -> None:
    line = mistake(checkout, 'unit="ms",\n', 'unit="ms"\n')
    refused_by_all(checkout, [f"{checkout / CATALOG}:{line}: {MEND} SyntaxError: invalid syntax. Perhaps"])


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("kind=Kind.QUANTILE", "kind=Knid.QUANTILE", "NameError: name 'Knid' is not defined: did you mean Kind?"),
        (
            "kind=Kind.QUANTILE",
            "kind=Kind.QUANTIL",
            "AttributeError: Kind has no attribute 'QUANTIL': did you mean QUANTILE?",
        ),
        ("kind=Kind.QUANTILE", "kind=Kind('quantil')", "ValueError: 'quantil' is not a valid Kind"),
        (
            "    Metric(\n        name=\"trading.order_latency\",",
            "    Metric(\n        nam=\"trading.order_latency\",",
            "TypeError: Metric.__init__() got an unexpected keyword argument 'nam'",
        ),
    ],
)  # fmt: skip
def test_what_python_finds_in_the_catalog_is_one_sentence(
    checkout: Path, right: str, wrong: str, said: str
) -> None:
    line = mistake(checkout, right, wrong)
    process = start(checkout, COMMAND)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (ConfigurationError.exit_code, "")
    assert err == f"error: {checkout / CATALOG}:{line}: {MEND} {said}\n"


def test_a_mistake_elsewhere_is_a_defect(checkout: Path) -> None:
    rules = checkout / "analytics_pipeline/rollups/declarations.py"
    rules.write_text(rules.read_text().replace("yield from _words(metric)", "yield from _wrods(metric)", 1))
    process = start(checkout, COMMAND)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 70
    assert "(NameError at declarations.py:" in err


def mistake(checkout: Path, right: str, wrong: str) -> int:
    """Make it at the only place that fits; the line that Python names."""
    source = (checkout / CATALOG).read_text()
    assert source.count(right) == 1
    (checkout / CATALOG).write_text(source.replace(right, wrong))
    return source[: source.index(right)].count("\n") + 1
