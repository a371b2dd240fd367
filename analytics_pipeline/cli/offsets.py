"""Commands on the offsets of landing, for a person who has looked at why a partition stopped.

Belongs here: arguments and words. Does not belong here: the work (`storage.offsets`).
"""

from typing import Annotated

import typer

from analytics_pipeline.cli.options import app, everywhere
from analytics_pipeline.cli.workers import DATABASE, joined

offsets = typer.Typer(help="Where landing stands in each Kafka partition.", no_args_is_help=True)
app.add_typer(offsets, name="offsets", rich_help_panel=DATABASE)


@offsets.callback()
def _group() -> None:
    """Where landing stands in each Kafka partition."""


@offsets.command("skip-to")
@everywhere
def skip_to(
    topic: Annotated[str, typer.Argument(help="Kafka topic")],
    partition: Annotated[int, typer.Argument(min=0, help="Its partition")],
    offset: Annotated[int, typer.Argument(min=0, help="Where to go on reading")],
    reason: Annotated[str, typer.Option(help="Why, kept in the ledger.")] = "skipped by an operator",
) -> None:
    """Go on reading a partition elsewhere; the ledger records what was left out. A running ingest follows."""
    found = joined()
    from analytics_pipeline.storage.connection import connection
    from analytics_pipeline.storage.offsets import skip_to

    conninfo = found.database.conninfo()
    with connection(conninfo, name="offsets") as opened:
        before = skip_to(opened, conninfo, (topic, partition), offset, note=reason)
    typer.echo(f"{topic}/{partition} goes on at {offset}; it stood at {before.next_offset}")
