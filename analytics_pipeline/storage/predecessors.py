"""What readers of an edited metric see until its backfill is done: the numbers of the definition before it.

Belongs here: finding those definitions, and showing their rows in the place of the new ones. Does not belong here:
when a definition follows another (`metric_versions`), comparing (`rollups.compare`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups import levels
from analytics_pipeline.rollups.catalog import Catalog, Metric
from analytics_pipeline.storage.connection import Connection

_SERVING = """
SELECT metric_name, metric_id FROM metric_service
WHERE metric_name = ANY(%(names)s) AND served_from <= %(at)s AND served_until > %(at)s
"""

Predecessors = Mapping[str, Metric]
"""By the metric_id that readers get: the metric that is to follow it."""


def predecessors(connection: Connection, at: datetime, catalog: Catalog, ids: Sequence[str]) -> Predecessors:
    """The definitions that answer, for buckets from `at` on, to the names of some metrics of a catalog.

    Those metrics that answer themselves, or whose name is new, are left out.
    """
    following = {metric.name: metric for metric in catalog.metrics if metric.metric_id in ids}
    serving = connection.execute(_SERVING, {"names": list(following), "at": at})
    return {
        metric_id: following[name] for name, metric_id in serving if metric_id != following[name].metric_id
    }


def served(rows: pa.Table, instead: pa.Table, before: Predecessors, level: str) -> pa.Table:
    """Rows as readers get them.

    Args:
        rows: of one level, of the metrics asked for.
        instead: rows of their predecessors, deltas among them.
        before: these predecessors.
        level: the level.
    """
    following = pa.array([metric.metric_id for metric in before.values()], pa.string())
    kept = rows.filter(pc.invert(pc.is_in(rows.column("metric_id"), following)))
    found = levels.roll_up(instead, level)
    place = pc.index_in(found.column("metric_id"), pa.array(before, pa.string()))
    # A state of another kind says nothing about the value that readers will see.
    kinds = pa.array([metric.kind.value for metric in before.values()], pa.string()).take(place)
    nothing = pa.scalar(None, pa.binary())
    state = pc.if_else(pc.equal(found.column("kind"), kinds), found.column("state"), nothing)
    return pa.concat_tables([kept, _with(_with(found, "metric_id", following.take(place)), "state", state)])


def _with(rows: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
