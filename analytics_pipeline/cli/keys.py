"""Commands on keys of the REST API: create, list, revoke.

Belongs here: arguments and words. Does not belong here: the work (`storage.api_keys`).
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from analytics_pipeline.cli.options import AsJson, app, everywhere, print_json
from analytics_pipeline.cli.times import to_second
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.settings import parse_duration

if TYPE_CHECKING:
    from analytics_pipeline.storage.api_keys import ApiKey

keys = typer.Typer(help="Keys of the REST API.", no_args_is_help=True)
app.add_typer(keys, name="keys", rich_help_panel=DATABASE)


@keys.callback()
def _group() -> None:
    """Keys of the REST API; `security.api_key_enabled` makes it ask for one."""


@keys.command()
@everywhere
def create(
    name: Annotated[str, typer.Argument(help="What it is for, for people.", show_default=False)],
    scope: Annotated[list[str], typer.Option(help="read, write or admin; may be given several times.")],
    expires: Annotated[str | None, typer.Option(help="After this time, such as 90d [default: never]")] = None,
    event_type: Annotated[
        list[str] | None,
        typer.Option(help="Only events of this type, or with this beginning (order.*); several allowed."),
    ] = None,
    dimension: Annotated[
        list[str] | None,
        typer.Option(help="Only events with these values, such as strategy_id=a,b; several allowed."),
    ] = None,
    if_none: Annotated[bool, typer.Option("--if-none", help="Only if there has never been a key.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it: this once, and never again."""
    found, now = joined(), datetime.now(UTC)
    from analytics_pipeline.storage.api_keys import create_first_key, create_key, new_key
    from analytics_pipeline.storage.audit_log import write_command

    key = new_key(
        name,
        scope,
        now=now,
        expires_at=None if expires is None else _after(now, expires),
        event_types=event_type,
        dimensions=_dimensions(dimension or []),
    )
    with database(found, "keys") as opened:
        stored = (create_first_key if if_none else create_key)(opened, key)
        if stored is not None:
            write_command(opened, now, "analytics keys create", stored.id)
        opened.commit()
    if stored is None:
        typer.echo("null" if as_json else "there are keys already; none was made")
    elif as_json:
        print_json({"key": key.text, **stored._asdict()})
    else:
        typer.echo(f"key {stored.id} ({', '.join(stored.scopes)}); keep it, it is not shown again:", err=True)
        typer.echo(key.text)
    if stored is not None and not as_json and not found.security.api_key_enabled:
        typer.echo(
            "keys are off here (security.api_key_enabled): until they are on nobody is asked for one, and a key that "
            "is sent is not looked at",
            err=True,
        )


@keys.command("list")
@everywhere
def list_(as_json: AsJson = False) -> None:
    """List all keys, never the secrets: those are not known."""
    found, now = joined(), datetime.now(UTC)
    from analytics_pipeline.storage.api_keys import list_keys

    with database(found, "keys") as opened:
        rows = list_keys(opened)
    if as_json:
        print_json([{**row._asdict(), "state": row.state(now)} for row in rows])
        return
    # Never cut: it is what `revoke` takes.
    identity = Column("id", no_wrap=True, min_width=max((len(row.id) for row in rows), default=0))
    table = Table(identity, "name", "state", "scopes", "sees", "expires", "last used", box=None)
    for row in rows:
        words = (
            row.id, row.name, row.state(now), ", ".join(row.scopes), _sees(row),
            to_second(row.expires_at), to_second(row.last_used_at),
        )  # fmt: skip
        table.add_row(*map(Text, words))
    Console(highlight=False).print(table if rows else "no keys")


@keys.command()
@everywhere
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)], as_json: AsJson = False
) -> None:
    """End a key for good, and the sessions it was exchanged for; running API processes know within a second."""
    found = joined()
    from analytics_pipeline.storage.api_keys import revoke_key
    from analytics_pipeline.storage.audit_log import write_command

    with database(found, "keys") as opened:
        stored = revoke_key(opened, key_id)
        write_command(opened, datetime.now(UTC), "analytics keys revoke", stored.id)
        opened.commit()
    if as_json:
        print_json({**stored._asdict(), "state": stored.state(datetime.now(UTC))})
    else:
        typer.echo(f"key {stored.id} is revoked since {to_second(stored.revoked_at)}")


def _after(now: datetime, text: str) -> datetime:
    try:
        return now + parse_duration(text)
    except (ValueError, OverflowError):
        raise ConfigurationError("--expires: write a duration with its unit, like 12h or 90d") from None


def _dimensions(texts: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        found.setdefault(name.strip(), []).extend(
            value.strip() for value in values.split(",") if value.strip()
        )
    return found


def _sees(row: "ApiKey") -> str:
    parts = [", ".join(row.event_types)] if row.event_types else []
    parts += [f"{name}={','.join(values)}" for name, values in row.dimensions.items()]
    return "; ".join(parts) or "everything"
