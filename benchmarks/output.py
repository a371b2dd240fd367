"""Where the figures of a benchmark go: to a JSON file, whose path is the last line printed.

Belongs here: the option, the file and its name. Does not belong here: what is in it, and the table.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(".analytics-bench")
"""Ignored by git; a file a run, so that an earlier one is there to compare with."""


def add_option(parser: argparse.ArgumentParser, name: str) -> None:
    """Add `--json`; by default a file of this benchmark's name and the time in `FOLDER`."""
    path = FOLDER / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    parser.add_argument(
        "--json",
        type=Path,
        default=path,
        metavar="FILE",
        help=f"write every figure there; default {FOLDER}/{name}-TIME.json",
    )


def prepare(path: Path) -> None:
    """Make the folder: before anything is measured, so that nothing is measured in vain.

    Raises:
        SystemExit: there can be no such file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "Is a directory")
    except OSError as error:
        raise SystemExit(
            f"error: --json: {path} cannot be written ({error.strerror}): name another file"
        ) from None


def save(path: Path, found: dict[str, Any]) -> None:
    """Write what is known so far: a run that fails later has not been for nothing."""
    path.write_text(json.dumps(found, indent=2) + "\n")


def conclude(path: Path, found: dict[str, Any], table: str) -> None:
    """Write everything, print the table, and name the file in the last line."""
    save(path, found)
    print(table)
    print(f"\nevery figure is in {path}")
