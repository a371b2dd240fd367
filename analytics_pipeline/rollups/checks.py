"""Checks that computed rows agree with themselves before they replace anything.

The Arrow schema is enforced first, because value checks alone would let a wrong type or a missing column pass.
"""

import pandera.pyarrow as pandera
import pyarrow as pa
import pyarrow.compute as pc
from pandera.errors import SchemaErrors

from analytics_pipeline.errors import InvariantBroken
from analytics_pipeline.rollups.catalog import Kind
from analytics_pipeline.rollups.levels import LEVEL_SCHEMA
from analytics_pipeline.rollups.schema import SERIES

_VALUES = pandera.DataFrameSchema(
    {
        "count": pandera.Column(checks=pandera.Check.ge(0)),
        "kind": pandera.Column(checks=pandera.Check.isin([kind.value for kind in Kind])),
        "metric_id": pandera.Column(checks=pandera.Check.str_length(min_value=1)),
        "spread": pandera.Column(checks=pandera.Check.ge(0), nullable=True),
    },
    unique=["time_bucket", *SERIES],
)


def check_rows(rows: pa.Table) -> None:
    """Check a table of one level.

    Raises:
        InvariantBroken: it is not `LEVEL_SCHEMA`, a count is negative, a minimum is above its maximum, or two
            rows are of the same bucket and series.
    """
    if rows.schema != LEVEL_SCHEMA:
        raise InvariantBroken("computed rollups do not have the schema of a level: report this as a bug")
    spread = pc.subtract(rows.column("max"), rows.column("min"))
    try:
        _VALUES.validate(rows.append_column("spread", spread), lazy=True)
    except SchemaErrors as found:
        columns = sorted({str(case["column"] or "their keys") for case in found.failure_cases.to_pylist()})
        raise InvariantBroken(
            f"computed rollups contradict themselves in {', '.join(columns)}: nothing was written, report this as a bug"
        ) from found
