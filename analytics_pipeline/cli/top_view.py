"""The screen of `analytics top`: a moment drawn into any width and height.

Belongs here: layout and words. Does not belong here: reading (`overview`), keys and redrawing (`cli.top`).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics_pipeline.cli.dead_letter_display import printable

if TYPE_CHECKING:
    from analytics_pipeline.overview.moment import Moment

_WIDE = 120
_STALE = 60.0
"""Seconds from which on what is not fresh is shown in red."""
_FIXED = 9
"""Lines that are always there: head, summary, titles, gaps, foot."""
_LEAST_SOURCES, _LEAST_LETTERS = 5, 3
_MOST_PROCESS_LINES = 4
_PROBLEM_SHARE = 8
"""One line of so many may say what is wrong."""


def screen(moment: "Moment", width: int, height: int, *, foot: str = "") -> RenderableType:
    """All of it, `height` lines at most, none wider than `width`."""
    is_wide = width >= _WIDE
    problems = _problems(moment, max(1, height // _PROBLEM_SHARE))
    left = height - _FIXED - len(problems) - (1 if foot else 0)
    sources = _sources(moment, is_wide=is_wide)
    processes = _processes(moment, width)[: _MOST_PROCESS_LINES if is_wide else 2]
    shown_sources = min(len(sources), max(_LEAST_SOURCES, left // 3))
    left -= shown_sources + len(processes)
    letters = _letters(moment, is_wide=is_wide)
    most_letters = min(len(letters), max(_LEAST_LETTERS, left // 2))
    below = max(1, left - max(1, most_letters))
    facts = _facts(moment)
    parts: list[RenderableType] = [
        _head(moment),
        *problems,
        Text(),
        _table(_SOURCE_COLUMNS, sources[:shown_sources], width, "no source has landed anything yet"),
        Text(),
        _side_by_side(_types(moment, below), facts[:below], width),
        Text(),
        _table(_LETTER_COLUMNS, letters[:most_letters], width, "no open dead letter"),
        *([Text(), *processes] if processes else []),
    ]
    if foot:
        parts.append(Text(foot, "dim"))
    return Group(*parts)


def line(moment: "Moment") -> str:
    """All of it in one line, for a log or a pipe."""
    types = ", ".join(f"{printable(one.event_type)} {one.rate:,.1f}/s" for one in moment.types[:3])
    parts = [
        f"{moment.at:%Y-%m-%dT%H:%M:%SZ}",
        _summary(moment),
        *([f"types {types}"] if types else []),
        *([f"dead letter {moment.letters[0].id} {moment.letters[0].reason}"] if moment.letters else []),
        *(f"{part}: {sentence}" for part, sentence in moment.problems.items()),
        *(f"{one.severity}: {one.text}" for one in moment.pipeline_problems),
    ]
    return "   ".join(parts)


_SOURCE_COLUMNS = ("source", ">read/s", ">stored/s", ">twice/s", ">dead/s", ">behind", "lag by partition")
_LETTER_COLUMNS = ("dead letter", "written", "message", "reason", "detail")


def _head(moment: "Moment") -> Text:
    return Text.assemble(
        ("B25 Analytics ", "bold"),
        (f"{moment.at:%H:%M:%SZ}  ", "dim"),
        _summary(moment),
        overflow="ellipsis",
        no_wrap=True,
    )


def _summary(moment: "Moment") -> str:
    waiting = "?" if moment.waiting is None else f"{moment.waiting:,}"
    return f"in {moment.read:,.0f}/s  lag {waiting}  fresh {_seconds(moment.behind)}"


def _problems(moment: "Moment", most: int) -> list[Text]:
    """What could not be read, then what is wrong with the pipeline; the last line counts those that do not fit."""
    lines = [(f"{part}: {sentence}", "bold red") for part, sentence in moment.problems.items()]
    lines += [
        (f"{one.severity}: {one.text}", "bold red" if one.severity == "error" else "yellow")
        for one in moment.pipeline_problems
    ]
    if len(lines) > most:
        rest = len(lines) - most + 1
        what = f"{rest} problems" if most == 1 else f"and {rest} more"
        lines[most - 1 :] = [
            (f"{what}: GET /api/v1/pipeline and `analytics doctor` name them all", "bold red")
        ]
    return [Text(printable(words), style, overflow="ellipsis", no_wrap=True) for words, style in lines]


def _sources(moment: "Moment", *, is_wide: bool) -> list[list[Text]]:
    by_name = {one.source: one for one in moment.sources}
    rows = []
    for name in sorted(by_name.keys() | moment.lag.keys()):
        one = by_name.get(name)
        numbers = (
            [f"{n:,.0f}" if n >= 10 else f"{n:,.1f}" for n in (one.read, one.stored, one.duplicate, one.dead)]
            if one is not None
            else ["?"] * 4
        )
        behind = one.behind if one is not None else None
        partitions = moment.lag.get(name, {})
        lags = " ".join(
            "?" if count is None else f"{count:,}" if is_wide else _short(count)
            for count in partitions.values()
        )
        rows.append([
            Text(printable(name)),
            *map(Text, numbers),
            Text(_seconds(behind), "red" if behind is not None and behind > _STALE else ""),
            Text(lags or "–"),
        ])  # fmt: skip
    return rows


def _types(moment: "Moment", most: int) -> list[Text]:
    if not moment.types:
        return [Text("no events in this minute", "dim")]
    longest = moment.types[0].rate or 1.0
    return [
        Text.assemble(
            f"{one.rate:>8,.1f}/s ",
            ("▇" * max(1, round(8 * one.rate / longest)), "cyan"),
            " ",
            printable(one.event_type),
        )
        for one in moment.types[:most]
    ]


def _facts(moment: "Moment") -> list[Text]:
    found = []
    rollups, api = moment.rollups, moment.api
    if rollups is not None:
        found += [
            ("pending deltas", f"{rollups.pending:,}"),
            ("oldest waits", "–" if rollups.oldest is None else _seconds(max(0.0, rollups.oldest))),
        ]
    if api is not None:
        ratio = "–" if api.hit_ratio is None else f"{api.hit_ratio:.0%}"
        found += [("requests", f"{api.requests:,.1f}/s"), ("cache hits", f"{api.hits:,.1f}/s, {ratio}")]
    if rollups is not None:
        found += [
            ("final until", _time(rollups.final_until)),
            ("restated, 1 day", f"{rollups.restated:,} min"),
        ]
    if api is not None:
        found += [("errors 5xx", f"{api.errors:,.1f}/s"), ("open streams", f"{api.streams:,}")]
    return [Text.assemble((f"{name:<16}", "dim"), value) for name, value in found] or [
        Text("not known", "dim")
    ]


def _letters(moment: "Moment", *, is_wide: bool) -> list[list[Text]]:
    return [
        [
            Text(str(one.id)),
            Text(f"{one.created_at:%H:%M:%S}" if not is_wide else f"{one.created_at:%Y-%m-%d %H:%M:%SZ}"),
            Text(printable(f"{one.source}/{one.partition}@{one.offset}")),
            Text(printable(one.reason), "yellow"),
            Text(printable(one.detail)),
        ]
        for one in moment.letters
    ]


def _processes(moment: "Moment", width: int) -> list[Text]:
    busiest = sorted(moment.processes, key=lambda one: (-round(one.cpu), one.name))
    words = [f"{one.name} {one.cpu:.0f}% {one.memory / 1e6:,.0f} MB" for one in busiest]
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 3 <= width:
            lines[-1] += f" · {word}"
        else:
            lines.append(word)
    return [Text(one, "dim", overflow="ellipsis", no_wrap=True) for one in lines]


def _table(columns: Sequence[str], rows: Iterable[list[Text]], width: int, nothing: str) -> RenderableType:
    table = Table(box=None, width=width, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        is_last = number == len(columns) - 1
        table.add_column(
            name.removeprefix(">"), justify="right" if name.startswith(">") else "left", no_wrap=True,
            overflow="ellipsis", ratio=1 if is_last else None,
        )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    return table if table.row_count else Text(nothing, "dim")


def _side_by_side(left: list[Text], right: list[Text], width: int) -> Table:
    table = Table(box=None, width=width, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("event types now", ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("rollups and API", ratio=2, no_wrap=True, overflow="ellipsis")
    for number in range(max(len(left), len(right))):
        table.add_row(*(side[number] if number < len(side) else Text() for side in (left, right)))
    return table


def _short(count: int) -> str:
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if count >= size:
            return f"{count / (1000 if unit == 'k' else size):.0f}{unit}"
    return str(count)


def _seconds(value: float | None) -> str:
    if value is None:
        return "?"
    if value >= 86_400 * 365:
        return "never"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:,.0f} {unit}"
    return f"{value:,.1f} s"


def _time(at: datetime | None) -> str:
    return "–" if at is None else f"{at:%H:%M}Z"
