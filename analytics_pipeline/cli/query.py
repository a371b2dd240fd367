"""`analytics query`: metrics and events, in a terminal or for a program.

Belongs here: arguments. Does not belong here: asking (`asking`), how answers look (`query_display`).
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from analytics_pipeline.cli import query_display
from analytics_pipeline.cli.asking import EVENTS, METRICS, UNKNOWN_METRIC, Asking
from analytics_pipeline.cli.completion import event_types, metric_names
from analytics_pipeline.cli.options import app, everywhere
from analytics_pipeline.cli.times import ago, is_age, moment
from analytics_pipeline.cli.workers import DATABASE
from analytics_pipeline.errors import ConfigurationError
from api.times import format_time

query = typer.Typer(help="Metrics and events, as the API answers them.", no_args_is_help=True)
app.add_typer(query, name="query", rich_help_panel=DATABASE)


class MetricFormat(StrEnum):
    """How points are shown."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    SPARKLINE = "sparkline"


class EventFormat(StrEnum):
    """How events are shown."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"


Last = Annotated[
    str | None, typer.Option("--last", metavar="AGE", help="The range that ends now: 15m, 24h, 7d.")
]
From = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="A time (2026-05-15T12:00Z) or an age (24h, 7d).")
]
To = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="Before this time or age [default: now]")
]
Api = Annotated[
    str | None,
    typer.Option(
        "--api",
        metavar="URL",
        envvar="ANALYTICS_API",
        help="Ask this API [default: the database, by the same code]",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file", help="File with the key for --api [default: the variable ANALYTICS_API_KEY]"
    ),
]
Key = Annotated[str | None, typer.Option("--api-key", envvar="ANALYTICS_API_KEY", hidden=True)]
Json = Annotated[bool, typer.Option("--json", help="For programs: what the API answers; as --format json.")]


@query.callback()
def _group() -> None:
    """Metrics and events: every number is the one that the API answers."""


@query.command()
@everywhere
def metrics(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME…", help="Metrics of the catalog.", autocompletion=metric_names, show_default=False
        ),
    ],
    last: Last = None,
    start: From = None,
    end: To = None,
    interval: Annotated[
        str | None, typer.Option(help="1m, 5m, 15m, 1h, 1d or auto [default: 1h; of a sparkline auto]")
    ] = None,
    group_by: Annotated[str | None, typer.Option(help="A dimension, or several with commas.")] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="NAME=VALUE", help="Only this value; or name:operator:value. Several allowed."
        ),
    ] = None,
    aggregation: Annotated[
        str | None, typer.Option(help="Such as sum, avg, p99 [default: the metric's own]")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(help="Days and times of this zone, such as Europe/Berlin.")
    ] = None,
    top: Annotated[int | None, typer.Option(help="Only the highest series; the others together.")] = None,
    fill: Annotated[
        str | None, typer.Option(help="For buckets without a value: null, zero or previous.")
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="With as many buckets before (previous), or a day (1d) or week (7d) earlier."),
    ] = None,
    form: Annotated[MetricFormat, typer.Option("--format", help="How to show it.")] = MetricFormat.TABLE,
    as_json: Json = False,
    api: Api = None,
    key_file: KeyFile = None,
    key: Key = None,
) -> None:
    """Show metrics over time, what is pending included; points of buckets that are not final say so."""
    chosen = MetricFormat.JSON if as_json else form
    width = query_display.spark_width() if chosen is MetricFormat.SPARKLINE and interval is None else None
    answer = _asking(api, key_file, key).answer(METRICS, [
        *(("metric_name", name) for name in names),
        *_range(last, start, end),
        ("interval", interval if width is None else "auto"),
        ("max_points", width),
        ("group_by", group_by),
        *(("dimension", query_display.condition(one)) for one in filters or ()),
        ("aggregation", aggregation),
        ("time_zone", zone),
        ("top", top),
        ("fill", fill),
        ("compare", compare),
    ])  # fmt: skip
    if UNKNOWN_METRIC in answer.get("warnings", ()):
        raise ConfigurationError(f"{UNKNOWN_METRIC} `analytics metrics list` shows those there are.")
    query_display.show_metrics(answer, chosen.value, zone)


@query.command()
@everywhere
def events(
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type", help="Of this type; order.* for all that begin so. Several.", autocompletion=event_types
        ),
    ] = None,
    last: Last = None,
    start: From = None,
    end: To = None,
    user: Annotated[str | None, typer.Option(help="Of this user.")] = None,
    session: Annotated[str | None, typer.Option(help="Of this session.")] = None,
    event_id: Annotated[str | None, typer.Option("--id", help="The event of this id.")] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            metavar="CONDITION",
            help="As name:operator:value, such as price:gte:50000. Several.",
        ),
    ] = None,
    fields: Annotated[
        str | None, typer.Option(help="Only these, with commas: timestamp,event_type,properties.symbol")
    ] = None,
    order: Annotated[str | None, typer.Option(help="By time: desc or asc [default: desc]")] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most this many [default: analytics.query.default_limit]")
    ] = None,
    cursor: Annotated[str | None, typer.Option(help="The page that another page's cursor leads to.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All that fit, without pages; with --format csv or ndjson.")
    ] = False,
    form: Annotated[EventFormat, typer.Option("--format", help="How to show them.")] = EventFormat.TABLE,
    as_json: Json = False,
    api: Api = None,
    key_file: KeyFile = None,
    key: Key = None,
) -> None:
    """Find events by time, type, user, session, id and properties, the newest first."""
    chosen = EventFormat.JSON if as_json else form
    asked = [
        *(("event_type", name) for name in types or ()),
        *_range(last, start, end, is_first=cursor is None),
        ("user_id", user),
        ("session_id", session),
        ("id", event_id),
        *(("property", one) for one in properties or ()),
        ("fields", fields),
        ("order", order),
        ("limit", limit),
        ("cursor", cursor),
    ]
    asking = _asking(api, key_file, key)
    if not every:
        query_display.show_events(asking.answer(EVENTS, asked), chosen.value, fields)
        return
    if chosen not in (EventFormat.CSV, EventFormat.NDJSON):
        raise ConfigurationError("--all goes with --format csv or --format ndjson: it may be a lot")
    query_display.write(asking.pieces(EVENTS, [*asked, ("format", chosen.value)]))


def _range(
    last: str | None, start: str | None, end: str | None, *, is_first: bool = True
) -> list[tuple[str, object]]:
    """The range; of a page that another leads to, none that was reckoned from now: the cursor keeps it."""
    if last is not None and (start is not None or end is not None):
        raise ConfigurationError("--last stands instead of --from and --to")
    if not is_first:
        last = None
        start, end = (None if text is not None and is_age(text) else text for text in (start, end))
    first = ago(last, "--last") if last is not None else moment(start, "--from")
    until = moment(end, "--to")
    return [("start_time", first and format_time(first)), ("end_time", until and format_time(until))]


def _asking(api: str | None, key_file: Path | None, key: str | None) -> Asking:
    if key_file is None:
        return Asking(api, key)
    try:
        return Asking(api, key_file.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"--api-key-file: {key_file} cannot be read as text") from None
