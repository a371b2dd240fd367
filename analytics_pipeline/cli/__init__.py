"""The command `analytics`: every process of the product, and the local stack that runs them all.

Belongs here: the entry, errors as words and exit codes. Does not belong here: commands (`stack`, `workers`).
"""

import traceback
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from analytics_pipeline.cli import (
    backfill,
    dead_letters,
    definitions,
    doctor,
    fate,
    import_history,
    keys,
    ledger,
    metrics,
    offsets,
    query,
    sources,
    sql,
    stack,
    top,
    workers,
)
from analytics_pipeline.cli.options import Shown, app
from analytics_pipeline.errors import AnalyticsError, ConfigurationError

__all__ = [
    "backfill",
    "dead_letters",
    "definitions",
    "doctor",
    "fate",
    "import_history",
    "keys",
    "ledger",
    "main",
    "metrics",
    "offsets",
    "query",
    "sources",
    "sql",
    "stack",
    "top",
    "workers",
]

_INTERRUPTED = 130
_DEFECT = 70
"""EX_SOFTWARE of sysexits.h."""


def main() -> int:
    """Run; an error is one sentence on stderr, and the exit code of its class."""
    try:
        app()
    except AnalyticsError as error:
        _tell(error.problems if isinstance(error, ConfigurationError) else [str(error)], error)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001  (the edge of the process: a person gets a sentence, not a traceback)
        sentence = (
            f"this is a defect of `analytics` ({type(error).__name__} at {_place(error)}): run it again with"
        )
        _tell([f"{sentence} --debug, and report what it shows"], error)
        return _DEFECT
    return 0


def _tell(problems: Iterable[str], error: Exception) -> None:
    if Shown.tracebacks:
        traceback.print_exc()
    screen = Console(stderr=True, highlight=False)
    for problem in problems:
        words = problem or f"{type(error).__name__}; --debug shows where"
        screen.print(Text.assemble(("error: ", "bold red"), words), soft_wrap=True)


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if "analytics_pipeline" in one.filename or "/api/" in one.filename]
    last = (own or list(frames))[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
