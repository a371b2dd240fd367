"""The command `analytics`: every process of the product, and the local stack that runs them all.

Belongs here: the entry, errors as words and exit codes. Does not belong here: commands (`stack`, `workers`).
"""

import traceback

from rich.console import Console
from rich.text import Text

from analytics_pipeline.cli import (
    backfill,
    dead_letters,
    definitions,
    fate,
    import_history,
    keys,
    ledger,
    metrics,
    offsets,
    sources,
    sql,
    stack,
    workers,
)
from analytics_pipeline.cli.options import Shown, app
from analytics_pipeline.errors import AnalyticsError, ConfigurationError

__all__ = [
    "backfill",
    "dead_letters",
    "definitions",
    "fate",
    "import_history",
    "keys",
    "ledger",
    "main",
    "metrics",
    "offsets",
    "sources",
    "sql",
    "stack",
    "workers",
]

_INTERRUPTED = 130


def main() -> int:
    """Run; an error is one sentence on stderr, and the exit code of its class."""
    try:
        app()
    except AnalyticsError as error:
        if Shown.tracebacks:
            traceback.print_exc()
        screen = Console(stderr=True, highlight=False)
        for problem in error.problems if isinstance(error, ConfigurationError) else [str(error)]:
            words = problem or f"{type(error).__name__}; --debug shows where"
            screen.print(Text.assemble(("error: ", "bold red"), words), soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0
