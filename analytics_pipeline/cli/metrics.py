"""Commands on the catalog of metrics: list it, look at one, write its page.

Belongs here: arguments and words. Does not belong here: declarations (`rollups.catalog`) and their rules
(`rollups.declarations`), which are checked whenever one of these commands loads them.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.completion import metric_names
from analytics_pipeline.cli.options import AsJson, app, everywhere, print_json
from analytics_pipeline.cli.workers import DATABASE, database, joined
from analytics_pipeline.errors import EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from analytics_pipeline.rollups.catalog import Catalog, Metric
    from analytics_pipeline.storage.metric_versions import Version

metrics = typer.Typer(help="The catalog of metrics.", no_args_is_help=True)
app.add_typer(metrics, name="metrics", rich_help_panel=DATABASE)

_FILE_WIDTH = 200
_MOST_TYPES = 10_000
_EPOCH = 1970
"""The year of a metric that has all events there ever were."""


@metrics.callback()
def _group() -> None:
    """The catalog of metrics: what is declared, and since when each answers."""


@metrics.command("list")
@everywhere
def list_(as_json: AsJson = False) -> None:
    """List all metrics, those of custom events too."""
    catalog, versions, types = _known()
    _warn(catalog.metrics, types)
    if as_json:
        print_json([_plain(one, versions) for one in catalog.metrics])
        return
    from analytics_pipeline.rollups.catalog_page import groups_of

    table = Table("metric", "unit", "group by", "aggregations", "complete since", box=None)
    for one in catalog.metrics:
        row = (
            one.name,
            one.unit,
            ", ".join(groups_of(one)),
            ", ".join(one.aggregations),
            _since(one, versions),
        )
        table.add_row(*map(Text, row))
    _console().print(table)


@metrics.command()
@everywhere
def show(
    name: Annotated[str, typer.Argument(help="Its name.", show_default=False, autocompletion=metric_names)],
    as_json: AsJson = False,
) -> None:
    """Show one metric: what it says, where it is declared, which versions of it answer for which time."""
    catalog, versions, types = _known()
    from analytics_pipeline.storage.backfill import ids_of

    [metric_id] = ids_of([name], catalog) or []
    metric = catalog.by_id[metric_id]
    _warn([metric], types)
    if as_json:
        print_json(_plain(metric, versions))
        return
    from analytics_pipeline.rollups.catalog_page import facts

    console = _console()
    console.print(Text(f"{metric.name}: {metric.description}"))
    shown = facts(metric) | {"id": metric.metric_id, "declared at": _place(metric)}
    for label, text in (shown | {"complete since": _since(metric, versions)}).items():
        console.print(Text(f"  {label:<15}{text}"), soft_wrap=True)
    for one in _of(metric, versions) or ():
        if one.metric_id != metric.metric_id and one.served_until is not None:
            span = f"{_time(one.served_from)} to {_time(one.served_until)}"
            console.print(Text(f"  {'before':<15}{one.metric_id}, from {span}"), soft_wrap=True)


@metrics.command()
@everywhere
def docs() -> None:
    """Print the page of the catalog, in Markdown: docs/metrics-catalog.md."""
    from analytics_pipeline.rollups.catalog import BUILT_IN
    from analytics_pipeline.rollups.catalog_page import page

    typer.echo(page(BUILT_IN), nl=False)


def _known() -> "tuple[Catalog, list[Version] | None, list[str] | None]":
    """The catalog, and what the database knows: versions, and event types that are defined or came lately.

    None, said on stderr, where it is away.
    """
    found = joined()
    from analytics_pipeline.rollups.catalog import BUILT_IN
    from analytics_pipeline.storage.definitions import load_catalog
    from analytics_pipeline.storage.metric_versions import versions
    from analytics_pipeline.storage.overview import event_types

    try:
        with database(found, "metrics") as opened:
            catalog = load_catalog(opened, is_custom_enabled=found.custom_events.enabled)
            return catalog, versions(opened), event_types(opened, most=_MOST_TYPES)
    except EnvironmentFault as fault:
        typer.echo(f"only what is declared, because the database cannot be asked: {fault}", err=True)
        return BUILT_IN, None, None


def _warn(looked_at: "Iterable[Metric]", types: list[str] | None) -> None:
    """Tell on stderr of event types that nobody knows."""
    from analytics_pipeline.events.judge import BUILT_IN_TYPES
    from analytics_pipeline.rollups.unfamiliar_types import warnings

    known = {*BUILT_IN_TYPES, *(types or ())}
    for sentence in warnings(looked_at, known, is_all_known=types is not None):
        typer.echo(f"warning: {sentence}", err=True)


def _of(metric: "Metric", versions: "list[Version] | None") -> "list[Version] | None":
    return None if versions is None else [one for one in versions if one.metric_name == metric.name]


def _since(metric: "Metric", versions: "list[Version] | None") -> str:
    """From when on this very definition has all numbers."""
    if versions is None:
        return "not known"
    found = [one for one in versions if one.metric_id == metric.metric_id and one.superseded_at is None]
    return _time(found[-1].available_from) if found else "not yet: no ingest of this release has started"


def _time(at: datetime | None) -> str:
    return "the beginning" if at is None or at.year <= _EPOCH else f"{at:%Y-%m-%d %H:%MZ}"


def _plain(metric: "Metric", versions: "list[Version] | None") -> dict[str, Any]:
    return {
        "name": metric.name,
        "description": metric.description,
        "unit": metric.unit,
        "event_types": metric.event_types,
        "value": metric.value,
        "ratio": metric.ratio,
        "property_name": metric.property_name,
        "dimension_sets": metric.dimension_sets,
        "kind": metric.kind,
        "aggregations": metric.aggregations,
        "metric_id": metric.metric_id,
        "declared_at": None if metric.property_name else metric.declared_at,
        "versions": None if versions is None else [one._asdict() for one in _of(metric, versions) or ()],
    }


def _place(metric: "Metric") -> str:
    return "a definition of custom events" if metric.property_name else metric.declared_at


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console
