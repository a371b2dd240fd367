"""Answers to `analytics query`: tables, CSV, JSON, sparklines.

Belongs here: words and layout. Does not belong here: arguments (`query`), asking (`asking`).
"""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.dead_letter_display import printable

BARS = "▁▂▃▄▅▆▇█"
_FINAL = frozenset({"final", "restated"})
_MARKS = ("pending", "incomplete", "predecessor", "filled")
_OHLC = ("open", "high", "low", "close")
_COMPARED = ("compared", "change", "change_percent")
_COLUMNS = ("id", "event_type", "user_id", "session_id", "properties", "timestamp", "created_at")
_SHOWN = ("timestamp", "event_type", "user_id", "properties")
_FILE_WIDTH = 10_000
_WIDEST_CELL = 40
_LEGEND = 58
"""Columns beside a sparkline: its name and its numbers."""
_LEAST_SPARK, _MOST_SPARK = 20, 120

Point = dict[str, Any]


def condition(text: str) -> str:
    """A filter as the API reads it: `symbol=A` is `symbol:eq:A`, `symbol=A,B` is `symbol:in:A,B`, others stay."""
    name, equals, value = text.partition("=")
    if not equals or ":" in name:
        return text
    return f"{name}:{'in' if ',' in value else 'eq'}:{value}"


def spark_width() -> int:
    """How many buckets a sparkline may have here."""
    return min(_MOST_SPARK, max(_LEAST_SPARK, Console().width - _LEGEND))


def sparkline(values: Sequence[float | None]) -> str:
    """A bar for each value between the lowest and the highest; a gap where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return " " * len(values)
    low, high = min(known), max(known)
    step = (high - low) / (len(BARS) - 1)
    return "".join(
        " " if one is None else BARS[round((one - low) / step)] if step else BARS[3] for one in values
    )


def show_metrics(answer: Mapping[str, Any], form: str, zone: str | None) -> None:
    """An answer of `/api/v1/metrics`."""
    results = answer["results"] if "results" in answer else [answer["result"]]
    match form:
        case "json":
            typer.echo(json.dumps(answer))
            return
        case "csv":
            _metrics_as_csv(results)
        case "sparkline":
            _sparklines(results)
        case _:
            for result in results:
                _metric_table(result, zone)
    _warn(answer)


def show_events(answer: Mapping[str, Any], form: str, fields: str | None) -> None:
    """A page of `/api/v1/events`."""
    columns = [name.strip() for name in fields.split(",")] if fields else None
    match form:
        case "json":
            typer.echo(json.dumps(answer))
            return
        case "ndjson":
            for event in answer["events"]:
                typer.echo(json.dumps(event))
        case "csv":
            _write_csv([[_cell(event.get(name)) for name in columns or _COLUMNS] for event in answer["events"]],
                       columns or _COLUMNS)  # fmt: skip
        case _:
            _event_table(answer["events"], columns or _SHOWN)
    if answer.get("next_cursor"):
        typer.echo(f"there are more: --limit, --all, or --cursor {answer['next_cursor']}", err=True)
    _warn(answer)


def write(pieces: Iterable[bytes]) -> None:
    """A stream to stdout, as it comes."""
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def is_open(point: Point) -> bool:
    """Whether its number may still change."""
    return bool(point.get("pending")) or point.get("state") not in _FINAL


def _warn(answer: Mapping[str, Any]) -> None:
    for warning in answer.get("warnings", ()):
        typer.echo(warning, err=True)


def _dimensions(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(
        dict.fromkeys(name for one in results for point in one["data_points"] for name in point["dimensions"])
    )


def _extras(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns that only some answers have."""
    points = [point for one in results for point in one["data_points"]]
    return [name for name in (*_OHLC, *_COMPARED) if any(name in point for point in points)]


def _metrics_as_csv(results: Sequence[Mapping[str, Any]]) -> None:
    dimensions, extras = _dimensions(results), _extras(results)
    header = ["metric_name", "timestamp", *dimensions, "value", *extras, "state", "revision", *_MARKS]
    rows = [
        [
            one["metric_name"], point["timestamp"], *(point["dimensions"].get(name) for name in dimensions),
            point["value"], *(point.get(name) for name in extras), point["state"], point["revision"],
            *(str(bool(point.get(mark))).lower() for mark in _MARKS),
        ]
        for one in results for point in one["data_points"]
    ]  # fmt: skip
    _write_csv(rows, header)


def _write_csv(rows: Iterable[Sequence[object]], header: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(header)
    writer.writerows(rows)


def _metric_table(result: Mapping[str, Any], zone: str | None) -> None:
    dimensions, extras = _dimensions([result]), _extras([result])
    console = _console()
    error = result.get("relative_error")
    exact = f", ±{error:.1%}" if error else ""
    console.print(Text.assemble((printable(result["metric_name"]), "bold"),
                                f"  {result['aggregation']} per {result['interval']}{exact}"))  # fmt: skip
    table = Table(box=None, pad_edge=False)
    table.add_column(f"time ({zone or 'UTC'})")
    for name in dimensions:
        table.add_column(Text(printable(name)), overflow="fold")
    for name in ("value", *extras):
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("state")
    for point in result["data_points"]:
        table.add_row(
            _local(point["timestamp"], zone),
            *(Text(printable(str(point["dimensions"].get(name, "–")))) for name in dimensions),
            *(number(point.get(name)) for name in ("value", *extras)),
            _state(point),
            style="yellow" if is_open(point) else None,
        )
    console.print(table if table.row_count else "no points")
    if any(is_open(point) for point in result["data_points"]):
        console.print(Text("* may still change", "yellow"))


def _state(point: Point) -> Text:
    marks = [mark for mark in _MARKS if point.get(mark)]
    restated = f" r{point['revision']}" if point.get("state") == "restated" else ""
    words = ", ".join([f"{point.get('state') or 'open'}{restated}", *marks])
    return Text(f"{words} *" if is_open(point) else words)


def _sparklines(results: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("series", overflow="fold")
    table.add_column("", no_wrap=True)
    for name in ("lowest", "highest", "last"):
        table.add_column(name, justify="right")
    is_any_open = False
    for result in results:
        times = sorted({point["timestamp"] for point in result["data_points"]})
        times = times[-spark_width() :]
        series: dict[tuple[str, ...], dict[str, Point]] = {}
        for point in result["data_points"]:
            key = tuple(f"{name}={value}" for name, value in point["dimensions"].items())
            series.setdefault(key, {})[point["timestamp"]] = point
        for key, points in series.items():
            values = [points[at]["value"] if at in points else None for at in times]
            known = [value for value in values if value is not None]
            last = points.get(times[-1])
            is_open_end = last is not None and is_open(last)
            is_any_open |= is_open_end
            name = printable(" ".join([result["metric_name"], *key]))
            ends = (min(known), max(known), values[-1]) if known else (None, None, None)
            table.add_row(Text(f"{name} ({result['interval']})"), sparkline(values) + ("*" if is_open_end else " "),
                          *map(number, ends))  # fmt: skip
    console = _console()
    console.print(table if table.row_count else "no points")
    if is_any_open:
        console.print(Text("* the last bucket may still change", "yellow"))


def _event_table(events: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """On a terminal one line an event: properties are cut, the rest is not."""
    console = _console()
    rows = [[printable(_cell(event.get(name))) for name in columns] for event in events]
    table = Table(box=None, pad_edge=False, expand="properties" in columns and console.is_terminal)
    for number_of, name in enumerate(columns):
        widest = max((len(row[number_of]) for row in rows), default=0)
        is_cut = name == "properties" and console.is_terminal
        table.add_column(
            Text(printable(name)), overflow="ellipsis", no_wrap=True, ratio=1 if is_cut else None,
            min_width=None if is_cut else min(widest, _WIDEST_CELL),
        )  # fmt: skip
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table if table.row_count else "no events")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def number(value: float | None) -> str:
    """For people: whole numbers in full, others with nine digits."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.9g}"


def _local(timestamp: str, zone: str | None) -> str:
    at = datetime.fromisoformat(timestamp)
    return (
        f"{at.astimezone(ZoneInfo(zone)) if zone and zone.upper() not in {'UTC', 'Z'} else at:%Y-%m-%d %H:%M}"
    )


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console
