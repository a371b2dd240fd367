"""Commands that are one process of the product, or one task on its database: what services and schedulers start.

Belongs here: arguments and words. Does not belong here: the work, imported when a command runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from analytics_pipeline.cli.options import AsJson, Shown, app, everywhere, print_json
from analytics_pipeline.cli.progress import working
from analytics_pipeline.errors import ConfigurationError, EnvironmentFault
from analytics_pipeline.settings import SHARED_FOLDER, Settings, adopt, environment, parse_duration, settings

if TYPE_CHECKING:
    from analytics_pipeline.storage.connection import Connection

PROCESSES, DATABASE = "One process of it", "The database"


@app.command(rich_help_panel=PROCESSES)
@everywhere
def ingest() -> None:
    """Land events from Kafka and from the API's inbox until stopped."""
    found = joined()
    _share_series(found)
    from analytics_pipeline.ingest.__main__ import run

    raise typer.Exit(run(found, tracebacks=Shown.tracebacks))


@app.command(rich_help_panel=PROCESSES)
@everywhere
def api(
    reload: Annotated[bool, typer.Option(help="Restart on every change of the source.")] = False,
) -> None:
    """Serve the REST API, its metrics and its health until stopped. A port of 0 is any free one; the log says which."""
    found = joined(is_serving=True)
    from api.__main__ import run

    raise typer.Exit(run(found, reload=reload))


@app.command(rich_help_panel=PROCESSES)
@everywhere
def simulate(
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Events a second [default: simulator.rate]")
    ] = None,
    duration: Annotated[str | None, typer.Option(help="Such as 10m [default: until stopped]")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same events.")] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Send the past (simulator.history) first.")
    ] = False,
    history_until: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Send believable trading events to Kafka."""
    found = joined()
    from analytics_pipeline import logs
    from analytics_pipeline.simulator.run import produce_history, run

    logs.configure(found.logging, service="simulator")
    if history_until is not None:
        produce_history(found, datetime.fromisoformat(history_until), seed=seed)
        return
    try:
        length = parse_duration(duration) if duration else None
    except ValueError as error:
        raise ConfigurationError(f"--duration: {error}") from None
    raise typer.Exit(run(found, rate=rate, duration=length, history=history, seed=seed))


@app.command(rich_help_panel=DATABASE)
@everywhere
def migrate(
    url: Annotated[
        str | None,
        typer.Option(help="postgres://user:password@host/database [default: the settings' database]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the database to this version: migrations, partitions ahead, Dagster's tables. Safe to repeat."""
    if url is not None:
        adopt({"B25_DATABASE__URL": url})
    found = joined()
    from analytics_pipeline.local_stack.dagster_home import create_tables
    from analytics_pipeline.local_stack.schema import bring_up_to_date

    with working("applying migrations") as tell:
        applied, partitions = bring_up_to_date(found, tell)
        tell("making Dagster's tables")
        create_tables(found)
    if as_json:
        print_json({"applied": applied, "partitions": partitions})
        return
    for name in applied:
        typer.echo(f"applied {name}")
    typer.echo(
        f"the database is up to date: {len(applied)} migrations applied, {partitions} partitions created"
    )


@app.command(rich_help_panel=DATABASE)
@everywhere
def maintain(as_json: AsJson = False) -> None:
    """Create the partitions of the coming days; Dagster does it twice an hour, this does it now."""
    found = joined()
    from analytics_pipeline.local_stack.schema import create_partitions

    with working("creating partitions"):
        created = create_partitions(found)
    if as_json:
        print_json({"partitions": created})
    else:
        typer.echo(f"{created} partitions created")


def _share_series(found: Settings) -> None:
    """Name the folder of `metrics.folder` to prometheus_client, which looks for it when it is imported first."""
    if found.metrics.folder is not None and SHARED_FOLDER not in environment():
        found.metrics.folder.mkdir(parents=True, exist_ok=True)
        adopt({SHARED_FOLDER: str(found.metrics.folder.resolve())})


def joined(*, is_serving: bool = False) -> Settings:
    """The settings, with the addresses of the stack that runs here, unless they point elsewhere.

    `is_serving`: a port that was set to 0 is this process's own, a free one.
    """
    from analytics_pipeline.local_stack.detached import join

    join(settings(), is_serving=is_serving)
    return settings()


@contextmanager
def database(found: Settings, name: str) -> "Iterator[Connection]":
    """A connection to a database of this version, for one command; `name` is shown in `pg_stat_activity`.

    Raises:
        EnvironmentFault: it does not answer, refuses, or is of another version.
    """
    import psycopg

    from analytics_pipeline.storage.connection import connection
    from analytics_pipeline.storage.migrations import check_schema

    with connection(found.database.conninfo(), name=name) as opened:
        try:
            check_schema(opened)
            yield opened
        except psycopg.Error as error:
            raise EnvironmentFault(f"Postgres did not answer the question ({error.sqlstate})") from error
