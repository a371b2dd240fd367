"""Groups of dead letters on a terminal: two lines each, as wide as the screen.

Belongs here: what of a group is worth its place there. Does not belong here: arguments (`cli.dead_letters`), single
letters (`cli.dead_letter_display`).
"""

from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.text import Text

from analytics_pipeline.cli.dead_letter_display import printable
from analytics_pipeline.cli.times import to_second
from analytics_pipeline.events.fingerprint import parts_of
from analytics_pipeline.events.reasons import Reason

if TYPE_CHECKING:
    from analytics_pipeline.storage.dead_letters import Group

_NARROWEST = 72
_WITH_FIRST_SEEN = 112
"""Screens from this width on have a column more."""
_NAMED = 3
_SHORTEST_TYPE = 8
_GAP = "  "
_TITLES = ("count", "open", "reason", "type", "first seen", "last seen", "newest")
_RIGHT = frozenset({"count", "open", "newest"})
_SECOND_TITLE = f"{'group':<16}{_GAP}where, from whom, what else is of its own"


def show_groups(counted: "Sequence[Group]") -> None:
    """Two lines a group: numbers, then where it goes wrong, who sent it, and how it differs from those beside it."""
    screen = Console(highlight=False)
    for line in _lines(counted, max(screen.width, _NARROWEST)):
        screen.print(line, soft_wrap=True)


def _lines(counted: "Sequence[Group]", width: int) -> Iterator[Text]:
    rows = [_cells(group) for group in counted]
    titles = [
        title
        for title in _TITLES
        if (title != "open" or any(group.open != group.count for group in counted))
        and (title != "first seen" or width >= _WITH_FIRST_SEEN)
    ]
    widths = {title: max(len(title), *(len(row[title]) for row in rows)) for title in titles}
    others = sum(widths[title] + len(_GAP) for title in titles if title != "type")
    widths["type"] = min(widths["type"], max(_SHORTEST_TYPE, width - others))
    yield Text(_joined({title: title for title in titles}, widths), "bold")
    yield Text(_GAP + _SECOND_TITLE, "bold")
    fields = [parts_of(group.shape) for group in counted]
    clusters: dict[tuple[str | None, ...], list[Sequence[str]]] = {}
    for group, parts in zip(counted, fields, strict=True):
        clusters.setdefault(_looks(group), []).append(parts)
    alike = {looks: _Alike.of(cluster) for looks, cluster in clusters.items()}
    for group, parts, row in zip(counted, fields, rows, strict=True):
        yield Text(_joined(row, widths))
        words = "; ".join(map(printable, _words(group, parts, alike[_looks(group)])))
        second = Text(f"{_GAP}{group.group}{_GAP}{words}".rstrip())
        second.truncate(width, overflow="ellipsis")
        yield second


def _looks(group: "Group") -> tuple[str | None, ...]:
    return group.reason, group.event_type, group.detail.partition(": ")[0]


def _cells(group: "Group") -> dict[str, str]:
    return {
        "count": f"{group.count:,}",
        "open": f"{group.open:,}",
        "reason": printable(group.reason),
        "type": printable(group.event_type or "–"),
        "first seen": to_second(group.first_seen),
        "last seen": to_second(group.last_seen),
        "newest": str(group.sample),
    }


def _joined(row: dict[str, str], widths: dict[str, int]) -> str:
    cells = []
    for title, width in widths.items():
        cell = Text(row[title])
        cell.truncate(width, overflow="ellipsis")
        cell.align("right" if title in _RIGHT else "left", width)
        cells.append(cell.plain)
    return _GAP.join(cells).rstrip()


def _words(group: "Group", parts: Sequence[str], alike: "_Alike") -> Iterator[str]:
    """What the first line does not say; of the shape only the culprit, and what those that look alike do not have."""
    place, _, detail = group.detail.partition(": ")
    name = place.removeprefix("$.")
    culprit = next((part.removeprefix(f"{name}: ") for part in parts if part.startswith(f"{name}: ")), None)
    if place != "$":
        yield f"{place}: {culprit}" if culprit else place
    if group.producers:
        named = ", ".join(group.producers[:_NAMED])
        yield f"from {named}{' and more' if len(group.producers) > _NAMED else ''}"
    if group.shape.startswith("{"):
        yield from (part for part in parts if part not in alike.common and _name(part) != name)
        names = set(map(_name, parts)) | {name}
        yield from (f"no {other}" for other in alike.names if other not in names)
    else:
        yield group.shape
    # Of the newest letter; where the reason beside it means just that, there is no need to say it again.
    if not (group.reason in set(Reason) and detail == Reason(group.reason).meaning):
        yield detail


class _Alike(NamedTuple):
    """Groups that the first line and the place do not tell apart: fields that all have, names of those that any has."""

    common: Set[str]
    names: Sequence[str]

    @classmethod
    def of(cls, fields: Sequence[Sequence[str]]) -> "_Alike":
        names = dict.fromkeys(_name(part) for parts in fields for part in parts)
        return cls(set.intersection(*map(set, fields)), list(names))


def _name(part: str) -> str:
    return part.rpartition(": ")[0]
