"""A small plot for the UI: an SVG in a line of Markdown, which needs no library and no server.

Belongs here: drawing numbers. Does not belong here: figures that Dagster itself plots over time, which are plain
numbers in metadata.
"""

from base64 import b64encode
from collections.abc import Sequence

import dagster as dg

_WIDTH, _HEIGHT = 480, 64
_COLOUR = "#4f43dd"


def bars(values: Sequence[float | None], caption: str) -> dg.MetadataValue:
    """One bar a value, in their order, from zero to the largest magnitude; None leaves a gap.

    Args:
        values: at least one.
        caption: what is drawn; plain text.
    """
    known = [value for value in values if value is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    span = (high - low) or 1.0
    step = _WIDTH / max(1, len(values))
    drawn = "".join(
        f'<rect x="{place * step:.1f}" y="{(high - max(value, 0.0)) / span * _HEIGHT:.1f}" '
        f'width="{step * 0.8:.1f}" height="{max(abs(value) / span * _HEIGHT, 1):.1f}"/>'
        for place, value in enumerate(values)
        if value is not None
    )
    size = f'width="{_WIDTH}" height="{_HEIGHT}" fill="{_COLOUR}"'
    picture = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{drawn}</svg>'
    encoded = b64encode(picture.encode()).decode()
    return dg.MetadataValue.md(f"{caption}\n\n![{caption}](data:image/svg+xml;base64,{encoded})")
