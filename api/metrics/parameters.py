"""The parameters of `/api/v1/metrics`.

Belongs here: their names, texts and values. Does not belong here: what they mean together (`query`).
"""

from collections.abc import Iterable
from enum import StrEnum

from analytics_pipeline.rollups.schema import LEVELS
from api.metrics import filters, measures
from api.metrics.buckets import Compare
from api.parameters import END_TIME, START_TIME, Parameter

AUTO = "auto"
AUTO_POINTS = 500
"""Most buckets of `interval=auto`, if nobody says."""

MOST_METRICS = 20
MOST_TOP = 1000


class Fill(StrEnum):
    """What stands for a bucket without a value."""

    NONE = "none"
    NULL = "null"
    ZERO = "zero"
    PREVIOUS = "previous"


class Order(StrEnum):
    """By (bucket, series)."""

    ASC = "asc"
    DESC = "desc"


def _choice(name: str, description: str, values: Iterable[str], default: str | None = None) -> Parameter:
    known = list(values)
    schema: tuple[tuple[str, object], ...] = (("type", "string"), ("enum", known))
    return Parameter(
        name, description, default or known[0], (*schema, ("default", default)) if default else schema
    )


METRIC_NAME = Parameter(
    "metric_name",
    "A metric of the catalog, such as `trading.total_volume`, or `events.count.<event type>`; several, at most "
    f"{MOST_METRICS}, with commas between or the parameter repeated: then there are `results` instead of `result`.",
    "events.count.order.placed",
    required=True,
    repeats=True,
)
INTERVAL = _choice(
    "interval",
    "Width of a bucket. `auto`: the finest with at most `max_points` buckets.",
    (*LEVELS, AUTO),
    "1h",
)
MAX_POINTS = Parameter(
    "max_points",
    f"Most buckets; of `interval=auto` {AUTO_POINTS} if it is not given.",
    500,
    (("type", "integer"), ("minimum", 1)),
)
LAST = Parameter(
    "last",
    "The range that ends now, instead of start_time and end_time: `15m`, `24h`, `7d` (s, m, h, d, w).",
    "15m",
)
GROUP_BY = Parameter(
    "group_by",
    "A dimension of the metric, or several with commas: one point per bucket and value instead of the total.",
    "symbol",
)
TOP = Parameter(
    "top",
    "Only the series with the N highest values over the whole range; the others together are `__other__`.",
    10,
    (("type", "integer"), ("minimum", 1), ("maximum", MOST_TOP)),
)
FILL = _choice("fill", "What stands for a bucket without a value.", list(Fill), Fill.NONE)
TIME_ZONE = Parameter(
    "time_zone", "IANA name of the zone in which days, and hours, begin. Default UTC.", "Europe/Berlin"
)
COMPARE = _choice(
    "compare",
    "Also the value of as many buckets before, or of the same time 1 or 7 days before.",
    list(Compare),
)
ORDER = _choice("order", "By time, then series.", list(Order), Order.ASC)
LIMIT = Parameter(
    "limit", "Most points of a page; of each metric.", 1000, (("type", "integer"), ("minimum", 1))
)
CURSOR = Parameter("cursor", "`next_cursor` of another page of the same question, of one metric.")
COUNTS = Parameter(
    "counts",
    "`1`: also how many events each value is made of, and how many of its bucket were late.",
    1,
    (("type", "integer"), ("enum", [0, 1])),
)
EXPLAIN = Parameter(
    "explain", "`1`: also what was read for the answer.", 1, (("type", "integer"), ("enum", [0, 1]))
)
PARAMETERS = (
    METRIC_NAME, INTERVAL, MAX_POINTS, START_TIME, END_TIME, LAST, measures.AGGREGATION, GROUP_BY, *filters.PARAMETERS,
    TOP, FILL, TIME_ZONE, COMPARE, ORDER, LIMIT, CURSOR, COUNTS, EXPLAIN,
)  # fmt: skip
