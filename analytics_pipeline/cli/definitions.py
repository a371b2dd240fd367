"""Commands on custom event definitions: look at them, try a schema on stored events, change them.

Belongs here: arguments and words. Does not belong here: the work (`storage.definitions`, `events.compatibility`).
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.completion import definition_names
from analytics_pipeline.cli.dead_letter_display import printable
from analytics_pipeline.cli.options import AsJson, app, everywhere, print_json
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from analytics_pipeline.events.compatibility import Report
    from analytics_pipeline.rollups.automatic import MetricChanges
    from analytics_pipeline.storage.definitions import StoredDefinition

definitions = typer.Typer(help="JSON Schemas of custom event types.", no_args_is_help=True)
app.add_typer(definitions, name="definitions", rich_help_panel=DATABASE)

_REFUSES = 1
_LAST = 10_000

Name = Annotated[str, typer.Argument(help="Event type.", show_default=False, autocompletion=definition_names)]
SchemaFile = Annotated[
    Path, typer.Option("--schema", help="File with the JSON Schema, - for standard input.")
]


@definitions.callback()
def _group() -> None:
    """JSON Schemas that judge the properties of custom event types."""


@definitions.command("list")
@everywhere
def list_(as_json: AsJson = False) -> None:
    """List all definitions."""
    found = joined()
    from analytics_pipeline.storage.definitions import list_definitions

    with database(found, "definitions") as opened:
        rows = list_definitions(opened)
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    table = Table("name", "version", "active", "changed", "display name", box=None)
    for row in rows:
        shown = (
            row.name,
            str(row.version),
            "yes" if row.is_active else "no",
            f"{row.updated_at:%Y-%m-%d %H:%M:%SZ}",
        )
        table.add_row(*map(Text, (*shown, row.display_name)))
    Console(highlight=False).print(table if rows else "no definitions")


@definitions.command()
@everywhere
def show(
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="An earlier one [default: the newest]")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a schema, and which versions there are; old versions stay after a definition was changed or deleted."""
    found = joined()
    from analytics_pipeline.storage.definitions import list_versions

    with database(found, "definitions") as opened:
        versions = list_versions(opened, name)
    chosen = next((one for one in reversed(versions) if version in (None, one.version)), None)
    if chosen is None:
        raise ConfigurationError(
            "there is no definition of this name and version; `analytics definitions list` shows all"
        )
    if as_json:
        print_json({**chosen._asdict(), "versions": [one.version for one in versions]})
        return
    numbers = ", ".join(str(one.version) for one in versions)
    typer.echo(
        f"version {chosen.version} of {numbers}, from {chosen.created_at:%Y-%m-%d %H:%M:%SZ}", err=True
    )
    typer.echo(json.dumps(chosen.schema, indent=2, ensure_ascii=False))


@definitions.command()
@everywhere
def check(
    name: Name,
    schema: SchemaFile,
    last: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many stored events.")] = _LAST,
    as_json: AsJson = False,
) -> None:
    """Say which of the newest stored events of a type a schema would refuse, and which metrics come and go.

    Changes nothing. Exit code 1 when it would refuse any. Values are never shown. Keywords that look like typing errors
    are told.
    """
    found = joined()
    from analytics_pipeline.events.compatibility import report
    from analytics_pipeline.events.definitions import check_name, compile_definition
    from analytics_pipeline.rollups.automatic import metric_changes
    from analytics_pipeline.storage.definitions import active_schema, recent_events

    text = _read(schema)
    candidate = compile_definition(check_name(name), 1, text)
    warnings = _warn(text, as_json=as_json)
    with database(found, "definitions") as opened:
        metrics = metric_changes(name, active_schema(opened, name), candidate.schema)
        result = report(candidate, recent_events(opened, name, last))
    if as_json:
        print_json(_plain(result) | {"warnings": warnings, "metrics": metrics._asdict()})
    else:
        _show_report(result)
        _show_metrics(metrics)
    if not result.is_compatible:
        raise typer.Exit(_REFUSES)


@definitions.command("set")
@everywhere
def set_(
    name: Name,
    schema: SchemaFile,
    display_name: Annotated[str | None, typer.Option(help="For people [default: as it is]")] = None,
    description: Annotated[str | None, typer.Option(help="For people [default: as it is]")] = None,
    as_json: AsJson = False,
) -> None:
    """Define a type, or give it another schema: a new version, which every process uses from the next batch on.

    Says how many of the newest 10,000 stored events it would have refused, and which keywords look like typing errors,
    and stores it all the same; `check` says beforehand, and which. Says which metrics come and go, too.
    """
    found = joined()
    from analytics_pipeline.events.compatibility import report
    from analytics_pipeline.events.definitions import check_name, compile_definition
    from analytics_pipeline.events.json_schema import read_schema
    from analytics_pipeline.rollups.automatic import metric_changes
    from analytics_pipeline.storage.definitions import active_schema, put_definition, recent_events

    text = _read(schema)
    candidate = compile_definition(check_name(name), 1, text)
    warnings = _warn(text, as_json=as_json)
    with database(found, "definitions") as opened:
        result = report(candidate, recent_events(opened, name, _LAST))
        before = active_schema(opened, name)
        stored = put_definition(
            opened, name, read_schema(text), display_name=display_name, description=description
        )
        opened.commit()
    metrics = metric_changes(name, before, candidate.schema if stored.is_active else None)
    if result.judged and not as_json:
        typer.echo(
            f"would have refused {result.refused} of the newest {result.judged} stored events", err=True
        )
    _show_stored(
        stored,
        as_json=as_json,
        would_have_refused=_plain(result),
        warnings=warnings,
        metrics=metrics._asdict(),
    )
    if not as_json:
        _show_metrics(metrics, err=True)


@definitions.command()
@everywhere
def activate(name: Name, as_json: AsJson = False) -> None:
    """Judge events of a type by its newest version again."""
    _set_active(name, True, as_json=as_json)


@definitions.command()
@everywhere
def deactivate(name: Name, as_json: AsJson = False) -> None:
    """Let events of a type pass unjudged; the definition and its versions stay."""
    _set_active(name, False, as_json=as_json)


@definitions.command()
@everywhere
def delete(name: Name, as_json: AsJson = False) -> None:
    """Delete a definition that nothing needs; its versions stay, and one made again under this name goes on counting.

    Refused, with exit code 1, while events of the type are stored, messages that it refused wait, or its metrics have
    data.
    """
    found, now = joined(), datetime.now(UTC)
    from analytics_pipeline.storage.audit_log import write_command
    from analytics_pipeline.storage.definitions import delete_definition

    with database(found, "definitions") as opened:
        stored = delete_definition(opened, name)
        write_command(opened, now, "analytics definitions delete", name)
        opened.commit()
    if as_json:
        print_json({"name": stored.name, "deleted_version": stored.version})
    else:
        typer.echo(f"the definition is deleted; it was version {stored.version}")


def _set_active(name: str, is_active: bool, *, as_json: bool) -> None:
    found = joined()
    from analytics_pipeline.storage.definitions import set_active

    with database(found, "definitions") as opened:
        stored = set_active(opened, name, is_active)
        opened.commit()
    _show_stored(stored, as_json=as_json)


def _show_stored(stored: "StoredDefinition", *, as_json: bool, **more: object) -> None:
    if as_json:
        print_json(stored._asdict() | more)
    else:
        typer.echo(f"version {stored.version} is {'active' if stored.is_active else 'not active'}")


def _warn(schema: str, *, as_json: bool) -> list[str]:
    """Say which keywords look like typing errors; a program finds them in the answer."""
    from analytics_pipeline.events.misspelt import misspelt_keywords

    found = misspelt_keywords(schema)
    for sentence in () if as_json else found:
        typer.echo(f"warning: {printable(sentence)}", err=True)
    return found


def _show_metrics(metrics: "MetricChanges", *, err: bool = False) -> None:
    for what, names in (("new", metrics.added), ("gone", metrics.removed)):
        if names:
            typer.echo(f"metrics {what}: {', '.join(names)}", err=err)


def _read(path: Path) -> str:
    if str(path) == "-":
        return typer.get_text_stream("stdin").read()
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"--schema: {path} is not text in UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"--schema: {path} cannot be read: {error.strerror}") from None


def _plain(report: "Report") -> dict[str, Any]:
    return {
        "judged": report.judged,
        "refused": report.refused,
        "oldest": report.oldest,
        "newest": report.newest,
        "kinds": [kind._asdict() for kind in report.kinds],
    }


def _show_report(report: "Report") -> None:
    if report.oldest is None or report.newest is None:
        typer.echo("there are no stored events of this type: nothing to judge")
        return
    span = f"{report.oldest:%Y-%m-%d %H:%M:%SZ} to {report.newest:%Y-%m-%d %H:%M:%SZ}"
    typer.echo(f"would refuse {report.refused} of {report.judged} events, {span}")
    if report.kinds:
        table = Table("events", "path", "keyword", "problem", box=None)
        for kind in report.kinds:
            table.add_row(*map(Text, (str(kind.events), kind.path, kind.keyword, kind.sentence)))
        Console(highlight=False).print(table)
