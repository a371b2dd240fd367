"""`analytics sql`: ask the database one question, without another program.

Belongs here: arguments, and showing rows. Does not belong here: any statement of the product's own (`storage`).
"""

import json
import sys
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.dead_letter_display import printable
from analytics_pipeline.cli.options import app, everywhere
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import ConfigurationError

_SET = "SELECT set_config('statement_timeout', %s, true), set_config('TimeZone', 'UTC', true)"
_FILE_WIDTH = 10_000
_FAULTS_OF_STATEMENTS = ("0A", "21", "22", "25", "42", "57014")
"""SQLSTATE classes of a statement that is wrong, writes, or takes too long."""


@app.command(rich_help_panel=DATABASE)
@everywhere
def sql(
    statement: Annotated[
        str | None, typer.Argument(help="[default: read from stdin]", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Show at most this many rows.")] = 1000,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that it may take.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one row a line.")] = False,
) -> None:
    """Read from the database by one statement; nothing can be written. Times are shown in UTC."""
    asked = sys.stdin.read() if statement is None else statement
    with database(joined(), "sql") as opened:
        opened.rollback()
        opened.read_only = True
        try:
            opened.execute(_SET, (f"{timeout}s",))
            found = opened.execute(
                asked.encode(), prepare=True
            )  # one statement, so none can end the transaction
            names = [column.name for column in found.description or ()]
            rows = found.fetchmany(limit + 1) if names else []
        except psycopg.Error as error:
            if error.sqlstate is None or not error.sqlstate.startswith(_FAULTS_OF_STATEMENTS):
                raise
            raise ConfigurationError(
                f"Postgres refuses the statement: {error.diag.message_primary}"
            ) from None
    if as_json:
        for row in rows[:limit]:
            typer.echo(json.dumps(dict(zip(names, row, strict=True)), default=str))
    else:
        _show(names, rows[:limit])
    if len(rows) > limit:
        typer.echo(f"there are more rows than {limit:,}: --limit shows more", err=True)


def _show(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    table = Table(box=None)
    for name in names:
        table.add_column(Text(printable(name)))
    for row in rows:
        table.add_row(*(Text(printable(_text(value))) for value in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(table)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
