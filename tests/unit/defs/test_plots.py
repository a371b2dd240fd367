"""Small plots in metadata."""

import re
from base64 import b64decode

from analytics_pipeline.defs.plots import bars


def drawn(values: list[float | None]) -> list[tuple[float, float]]:
    """Top and height of each bar, of 64."""
    found = bars(values, "orders per hour").value
    assert found.startswith("orders per hour\n\n![orders per hour](data:image/svg+xml;base64,")
    picture = b64decode(found.split("base64,")[1].rstrip(")")).decode()
    return [
        (float(y), float(h))
        for y, h in re.findall(r' y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', picture)
    ]


def test_bars_stand_on_zero_and_fill_the_height():
    assert drawn([0.0, 1.0, 4.0]) == [(64.0, 1.0), (48.0, 16.0), (0.0, 64.0)]


def test_negative_values_hang_below_zero():
    assert drawn([3.0, -1.0]) == [(0.0, 48.0), (48.0, 16.0)]


def test_a_value_that_is_not_known_leaves_a_gap():
    assert len(drawn([1.0, None, 1.0])) == 2
    assert drawn([None]) == []
