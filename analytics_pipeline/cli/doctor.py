"""`analytics doctor`: looks over everything, and says what is wrong and what to do.

Belongs here: arguments and words. Does not belong here: any check (`doctor`).
"""

from collections import Counter
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.options import AsJson, app, everywhere, print_json
from analytics_pipeline.cli.words import counted

if TYPE_CHECKING:
    from analytics_pipeline.doctor.findings import Finding

PANEL = "The whole of it"
_PROBLEMS = 1
_STYLES = {"ok": "green", "remark": "yellow", "problem": "bold red"}


@app.command(rich_help_panel=PANEL)
@everywhere
def doctor(as_json: AsJson = False) -> None:
    """Look over configuration, machine, Postgres, Kafka, Redis and Dagster: what is wrong, and what to do.

    Changes nothing. Each check takes 15 s at most, whatever the others find. Exit code 1 when there is a problem;
    remarks are for people and leave it 0.
    """
    from analytics_pipeline.doctor.examine import examine
    from analytics_pipeline.doctor.findings import Level
    from analytics_pipeline.doctor.installation import look_around

    screen = Console(highlight=False)
    findings = []
    found, problems = look_around()
    for one in examine(found, problems):
        findings.append(one)
        if not as_json:
            _show(screen, one)
    counts = Counter(one.level for one in findings)
    if as_json:
        print_json({"problems": counts[Level.PROBLEM], "remarks": counts[Level.REMARK],
                    "checks": [one._asdict() for one in findings]})  # fmt: skip
    else:
        numbers = f"{counted(counts[Level.PROBLEM], 'problem')}, {counted(counts[Level.REMARK], 'remark')}"
        is_at_rest = found is not None and found.is_at_rest
        screen.print(f"nothing runs, so little was looked at: {numbers}" if is_at_rest else numbers)
    if counts[Level.PROBLEM]:
        raise typer.Exit(_PROBLEMS)


def _show(screen: Console, one: "Finding") -> None:
    """Under one another on a terminal; elsewhere, lines that a program may cut."""
    level = Text(f"{one.level.value:<8}", _STYLES[one.level])
    check, advice = Text(f"{one.check:<19}", "bold"), Text(f"→ {one.advice}", "dim")
    if not screen.is_terminal:
        screen.print(Text.assemble(level, check, one.sentence), soft_wrap=True)
        if one.advice:
            screen.print(Text.assemble(" " * 27, advice), soft_wrap=True)
        return
    table = Table.grid()
    for _ in range(3):
        table.add_column(overflow="fold")
    table.add_row(level, check, Text(one.sentence))
    if one.advice:
        table.add_row("", "", advice)
    screen.print(table)
