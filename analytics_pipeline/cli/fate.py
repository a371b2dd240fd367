"""`analytics fate`: what became of one message.

Belongs here: arguments and words. Does not belong here: looking it up (`storage.fates`).
"""

import json
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from analytics_pipeline.cli.options import AsJson, app, everywhere
from analytics_pipeline.cli.times import moment
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from analytics_pipeline.storage.fates import Fate

_UNKNOWN = 1


@app.command(rich_help_panel=DATABASE)
@everywhere
def fate(
    topic: Annotated[str | None, typer.Argument(help="Kafka topic …")] = None,
    partition: Annotated[int | None, typer.Argument(min=0, help="… its partition …")] = None,
    offset: Annotated[int | None, typer.Argument(min=0, help="… and the message's offset.")] = None,
    event_id: Annotated[str | None, typer.Option("--id", help="Instead: the event's id.")] = None,
    time: Annotated[str | None, typer.Option(help="With --id: the event's timestamp.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what became of one message: stored, duplicate, dead letter, or not read yet. Exit code 1: unknown."""
    from analytics_pipeline.storage import fates

    if (event_id is None) == (offset is None):
        raise ConfigurationError("give a topic, a partition and an offset, or --id (with --time)")
    wanted = None if event_id is None else _uuid(event_id)
    at = moment(time, "--time")
    with database(joined(), "fate") as opened:
        if wanted is not None:
            found = fates.of_event(opened, wanted, at)
        else:
            assert topic is not None
            assert partition is not None
            assert offset is not None
            found = fates.at_offset(opened, topic, partition, offset)
    if as_json:
        typer.echo(json.dumps([one._asdict() for one in found], indent=2, default=str))
    else:
        for one in found:
            typer.echo(sentence(one))
    if all(one.verdict is fates.Verdict.UNKNOWN for one in found):
        raise typer.Exit(_UNKNOWN)


def sentence(one: "Fate") -> str:
    """All that is known, in one line."""
    parts = [one.verdict.value if one.reason is None else f"{one.verdict.value}: {one.reason}", one.detail]
    if one.event_id is not None and one.event_time is not None:
        parts.append(f"{one.event_type} {one.event_id} at {one.event_time.isoformat()}")
    if one.source is not None:
        parts.append(f"{one.source}/{one.partition} offset {one.offset}")
    if one.dead_letter is not None:
        parts.append(f"analytics dead-letters show {one.dead_letter}")
    if one.batch_id is not None:
        parts.append(f"batch {one.batch_id}")
    if one.at is not None:
        parts.append(f"landed {one.at.isoformat(timespec='milliseconds')}")
    return "; ".join(part for part in parts if part)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ConfigurationError("--id: this is no UUID") from None
