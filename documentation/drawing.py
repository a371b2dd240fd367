"""Boxes, arrows and words as SVG, without a script: pages show them offline, in the light and in the dark.

Belongs here: shapes and their look. Does not belong here: what is drawn (`pictures`).
"""

from collections.abc import Sequence
from html import escape

Point = tuple[float, float]

_STYLE = """
text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2933; text-anchor: middle; }
.small { font-size: 12.5px; fill: #52606d; }
.left { text-anchor: start; }
.strong { font-weight: 600; }
rect, .store { fill: #eef2f7; stroke: #7b8794; stroke-width: 1.2; }
.store { fill: #e1ecfb; stroke: #3f6fb5; }
.good { fill: #dff3e4; stroke: #2f855a; }
.bad { fill: #fde8e4; stroke: #c05640; }
.frame { fill: none; stroke-dasharray: 5 4; }
.line { fill: none; stroke: #52606d; stroke-width: 1.5; }
.dashed { stroke-dasharray: 5 4; }
.tip { fill: #52606d; }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e7eb; }
  .small { fill: #b3bcc7; }
  rect { fill: #2c323d; stroke: #8a95a3; }
  .store { fill: #22344f; stroke: #6d9be0; }
  .good { fill: #1f3d2c; stroke: #5fb583; }
  .bad { fill: #482a25; stroke: #d98674; }
  .frame { fill: none; }
  .line { stroke: #b3bcc7; }
  .tip { fill: #b3bcc7; }
}
"""
_LINE_HEIGHT = 18


class Drawing:
    """One picture, `width` by `height` pixels at its natural size; `title` is what a screen reader says."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = (width, height)
        self._title = title
        self._shapes: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, *lines: str, look: str = "") -> None:
        """A box with words in its middle, the first of several lines stronger.

        `look`: "" for a process, "store" for what keeps data, "good" and "bad" for outcomes, "frame" for what encloses
        others, whose words stand at its upper edge.
        """
        self._shapes.append(
            f'<rect class="{look}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'
        )
        if look == "frame":
            self.words(x + width / 2, y + 19, *lines)
        else:
            self.words(x + width / 2, y + height / 2 + 5 - (len(lines) - 1) * _LINE_HEIGHT / 2, *lines)

    def words(self, x: float, y: float, *lines: str, is_left: bool = False, is_small: bool = False) -> None:
        """Lines of text; the first of several is strong unless all are small."""
        for number, line in enumerate(lines):
            names = ["left"] if is_left else []
            if is_small or number:
                names.append("small")
            elif len(lines) > 1:
                names.append("strong")
            self._shapes.append(
                f'<text class="{" ".join(names)}" x="{x:g}" y="{y + number * _LINE_HEIGHT:g}">{escape(line)}</text>'
            )

    def arrow(
        self, *points: Point, label: Sequence[str] = (), at: Point | None = None, look: str = ""
    ) -> None:
        """A line through points, its tip at the last; `label` stands left-aligned at `at`."""
        (x1, y1), (x2, y2) = points[-2:]
        length = max(abs(x2 - x1), abs(y2 - y1))
        dx, dy = (x2 - x1) / length, (y2 - y1) / length
        path = " ".join(f"{x:g},{y:g}" for x, y in (*points[:-1], (x2 - 7 * dx, y2 - 7 * dy)))
        tip = (
            (x2, y2),
            (x2 - 9 * dx - 4.5 * dy, y2 - 9 * dy - 4.5 * dx),
            (x2 - 9 * dx + 4.5 * dy, y2 - 9 * dy + 4.5 * dx),
        )
        self._shapes.append(f'<polyline class="line {look}" points="{path}"/>')
        self._shapes.append(f'<polygon class="tip" points="{" ".join(f"{x:g},{y:g}" for x, y in tip)}"/>')
        if at is not None:
            self.words(*at, *label, is_left=True, is_small=True)

    def line(self, *points: Point, look: str = "") -> None:
        """A line without a tip."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._shapes.append(f'<polyline class="line {look}" points="{path}"/>')

    def svg(self) -> str:
        """The file."""
        width, height = self._size
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
                f' viewBox="0 0 {width} {height}" role="img">',
                f"<title>{escape(self._title)}</title>",
                f"<style>{_STYLE}</style>",
                *self._shapes,
                "</svg>\n",
            )
        )
