"""`analytics sql`: ask the database one question, without another program.

Belongs here: arguments, and showing rows. Does not belong here: any statement of the product's own (`storage`).
"""

import json
import sys
from typing import Annotated, Any

import psycopg
import typer
from psycopg import abc, adapt
from psycopg.pq import Format
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.dead_letter_display import printable
from analytics_pipeline.cli.options import app, everywhere
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.storage.connection import Connection

_SET = "SELECT set_config('statement_timeout', %s, true), set_config('TimeZone', 'UTC', true)"
_FILE_WIDTH = 10_000
_FAULTS_OF_STATEMENTS = ("0A", "21", "22", "25", "42", "57014")
"""SQLSTATE classes of a statement that is wrong, writes, or takes too long."""
_TIMES = ("date", "time", "timetz", "timestamp", "timestamptz")


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
        _load_all_times(opened)
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


def _load_all_times(opened: Connection) -> None:
    """What Python has no time for, such as infinity, years after 9999 and 24:00, becomes the text that Postgres has.

    Intervals always do: Python takes an infinite one for nothing, and a month for 30 days.
    """
    for name in _TIMES:
        usual = opened.adapters.get_loader(opened.adapters.types[name].oid, Format.TEXT)
        assert usual is not None
        opened.adapters.register_loader(name, _or_text(usual))
    opened.adapters.register_loader("interval", _Text)


class _Text(adapt.Loader):
    def load(self, data: abc.Buffer) -> str:
        return bytes(data).decode()


def _or_text(usual: type[abc.Loader]) -> type[adapt.Loader]:
    class OrText(_Text):
        def __init__(self, oid: int, context: abc.AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._usual = usual(oid, context)

        def load(self, data: abc.Buffer) -> Any:
            try:
                return self._usual.load(data)
            except psycopg.DataError:
                return super().load(data)

    return OrText


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
