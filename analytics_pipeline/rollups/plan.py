"""The DuckDB statements that follow from the metric catalog.

Belongs here: SQL text, made of declarations alone, never of data.
Does not belong here: running it (`deltas`).
"""

from collections.abc import Iterable

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import TEXT_FIELDS, Catalog, Kind, Metric

_LIMIT = 1e18
"""Larger magnitudes are skipped: sums must fit DECIMAL(38, 9)."""

_DECIMAL = "DECIMAL(38, 9)"


def part_of(dimensions: Iterable[str]) -> int:
    """What `GROUPING` says of a dimension set: a bit for each text field that is not in it, the first one highest."""
    wanted = set(dimensions)
    return sum(1 << place for place, name in enumerate(reversed(TEXT_FIELDS)) if name not in wanted)


class Plan:
    """The statements that follow from one catalog; all read the table `facts`.

    Attributes:
        values: expressions that are summed, in the order of `sums`' columns.
        sums: per minute, event type and text fields of each dimension set: part, events, late events, both lanes
            of the set hash; count, sum, min and max of every value.
        histograms: per metric_id, the query of its bins: part, minute, text fields, key, count, in this order.
    """

    def __init__(self, catalog: Catalog) -> None:
        numeric = [
            one for one in catalog.metrics if one.kind is not Kind.DISTINCT and one.property_name is None
        ]
        self.values = sorted({metric.value for metric in numeric if metric.value is not None})
        self.sums = self._sums({part_of(d): d for metric in numeric for d in metric.dimension_sets}.values())
        self.histograms = {m.metric_id: self._histogram(m) for m in numeric if m.kind is Kind.QUANTILE}

    def _sums(self, dimension_sets: Iterable[tuple[str, ...]]) -> str:
        texts = ", ".join(TEXT_FIELDS)
        values = "".join(f", {rounded(value)} AS v{i}" for i, value in enumerate(self.values))
        sums = "".join(
            f", count(v{i}), sum(v{i}), min(v{i})::DOUBLE, max(v{i})::DOUBLE" for i in range(len(self.values))
        )
        return f"""
            SELECT {_grouping()} AS part, minute, event_type, {texts}, count(*), count(*) FILTER (WHERE is_late),
                sum(hash_high), sum(hash_low){sums}
            FROM (
                SELECT minute, event_type, {texts}, is_late, hash_high, hash_low{values} FROM facts
            )
            GROUP BY GROUPING SETS ({", ".join(_set("minute, event_type", d) for d in dimension_sets)})
        """

    def _histogram(self, metric: Metric) -> str:
        magnitude = f"ceil(ln(abs(v::DOUBLE)) / {states.LN_GAMMA!r})::INTEGER + {states.BIN_OFFSET}"
        sets = ", ".join(_set("minute, key", dimensions) for dimensions in metric.dimension_sets)
        kinds = ", ".join("'" + name.replace("'", "''") + "'" for name in metric.event_types)
        texts = ", ".join(TEXT_FIELDS)
        return f"""
            SELECT {_grouping()} AS part, minute, {texts}, key, count(*)::BIGINT AS count
            FROM (
                SELECT minute, {texts},
                    CASE WHEN v = 0 THEN 0 WHEN v > 0 THEN {magnitude} ELSE -({magnitude}) END::SMALLINT AS key
                FROM (
                    SELECT minute, {texts}, {rounded(metric.value or "")} AS v
                    FROM facts {f"WHERE event_type IN ({kinds})" if kinds else ""}
                )
                WHERE v IS NOT NULL
            )
            GROUP BY GROUPING SETS ({sets})
            ORDER BY part, minute, {texts}, key
        """


def rounded(expression: str) -> str:
    """Every value is rounded once, to 1e-9, so that sums do not depend on how events are batched."""
    return f"CASE WHEN abs({expression}) <= {_LIMIT} THEN ({expression})::{_DECIMAL} END"


def _grouping() -> str:
    return f"GROUPING({', '.join(TEXT_FIELDS)})"


def _set(always: str, dimensions: Iterable[str]) -> str:
    wanted = set(dimensions)
    return "(" + ", ".join([always, *(name for name in TEXT_FIELDS if name in wanted)]) + ")"
