"""The 1m rows of a stream of events that is longer than memory.

Belongs here: computing it chunk by chunk and adding the chunks up. Does not belong here: reading (`storage`), the
arithmetic of one chunk (`deltas`) and of rows (`levels`).
"""

from collections.abc import Callable, Iterable

import pyarrow as pa

from analytics_pipeline.rollups.catalog import Catalog
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.levels import LEVEL_SCHEMA, roll_up

_MOST_GATHERED = 20_000
"""Rows of chunks that are added up together, at least: adding up costs as much as the rows that are there already."""


def minute_rows(
    chunks: Iterable[pa.Table],
    catalog: Catalog,
    within_budget: Callable[[pa.Table], pa.Table] = lambda deltas: deltas,
) -> pa.Table:
    """Compute the rows of 1m of every metric, in memory bounded by a chunk and three times the rows found.

    Args:
        chunks: each as `compute_deltas` wants it, in any order.
        catalog: what is computed.
        within_budget: lets series without a place be `__other__` in the deltas of a chunk (`cardinality`).

    Returns:
        `LEVEL_SCHEMA`, one row per minute and series.
    """
    found = LEVEL_SCHEMA.empty_table()
    gathered: list[pa.Table] = []
    rows = 0
    for chunk in chunks:
        deltas = within_budget(compute_deltas(chunk, catalog))
        gathered.append(deltas.rename_columns({"minute": "time_bucket"}).select(LEVEL_SCHEMA.names))
        rows += deltas.num_rows
        if rows >= max(_MOST_GATHERED, found.num_rows):
            found, gathered, rows = roll_up(pa.concat_tables([found, *gathered]), "1m"), [], 0
    return roll_up(pa.concat_tables([found, *gathered]), "1m")
