"""Which quantiles have no bound: values of a cell lay too far apart for its histogram to tell the smallest apart.

Belongs here: finding those cells. Does not belong here: the histogram (`analytics_pipeline.rollups.states`), saying it
(`answers`).

A histogram does not say what was added to its smallest bin, but that is always the one which lies the whole width of a
histogram below the largest magnitude; and that is kept exactly, as the minimum and the maximum.
"""

from dataclasses import replace

import numpy as np

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Aggregation
from api.metrics.buckets import Buckets
from api.metrics.query import MetricQuery
from api.metrics.repository import Cursor, RowsRead, read_sums
from api.metrics.statements import Wanted, rest_of
from api.metrics.values import UNBOUNDED, Cells

_NO_LIMIT = 2**31 - 1


async def with_spans(cursor: Cursor, query: MetricQuery, buckets: Buckets, cells: Cells) -> Cells:
    """The cells of a quantile, which lie in these buckets, marked where it has no bound."""
    assert query.metric is not None
    if not len(cells.values):
        return cells
    parts = [part for part in query.parts(buckets) if part.served.kind == query.metric.kind.value]
    rest = rest_of(query)
    named = None if query.top is None else [name for name in cells.names if name != rest]
    lows_and_highs = replace(query, aggregation=Aggregation.OHLC.value)
    wanted = Wanted(lows_and_highs, buckets, parts, _NO_LIMIT, named=named).within(cells.bucket)
    found = await read_sums(cursor, wanted, RowsRead())
    magnitudes = np.maximum(np.abs(found.more["low"]), np.abs(found.more["high"]))
    largest = Cells(found.names, found.bucket, found.series, magnitudes).values_at(
        cells.names, cells.series, cells.bucket
    )
    is_unbounded = states.is_quantile_unbounded(cells.values, np.nan_to_num(largest))
    return replace(cells, more=cells.more | {UNBOUNDED: is_unbounded.astype(np.float64)})
