"""The DuckDB statements that follow from the metric catalog.

Belongs here: SQL text, made of declarations alone, never of data.
Does not belong here: running it (`deltas`).
"""

from collections.abc import Iterator

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import NUMBER_FIELDS, TEXT_FIELDS, Kind, Metric, dimension_set_name

_LIMIT = 1e18
"""Larger magnitudes are skipped: sums must fit DECIMAL(38, 9)."""

_MOST_DIMENSION_CHARACTERS = 255
_DECIMAL = "DECIMAL(38, 9)"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Plan:
    """The statements that follow from one catalog.

    Attributes:
        facts: makes the table of the batch's events, one row each.
        base: makes the table of sums per minute, type and text properties.
        groups: per dimension set, its metrics and the query of their counts, sums, minima and maxima.
        histograms: per metric_id, the query of its bins.
        distincts: metrics that count distinct values, in the order of `register`'s last columns.
        hashes: the query of the hashes of their values.
        register: the query of events, late events, both lanes of the set hash, and counts of `distincts`.
    """

    def __init__(self, catalog: tuple[Metric, ...]) -> None:
        self.values = sorted(
            {m.value for m in catalog if m.value is not None and m.kind is not Kind.DISTINCT}
        )
        self.weights = sorted({m.weight for m in catalog if m.weight != "1"})
        self.distincts = [m for m in catalog if m.kind is Kind.DISTINCT]
        self.facts = self._facts()
        self.base = self._base()
        self.groups: list[tuple[tuple[str, ...], list[Metric], str]] = []
        for dimensions in dict.fromkeys(
            d for m in catalog if m.kind is not Kind.DISTINCT for d in m.dimension_sets
        ):
            metrics = [m for m in catalog if m.kind is not Kind.DISTINCT and dimensions in m.dimension_sets]
            self.groups.append((dimensions, metrics, self._group(dimensions, metrics)))
        self.histograms = {m.metric_id: self._histogram(m) for m in catalog if m.kind is Kind.QUANTILE}
        self.hashes = self._hashes()
        self.register = self._register()

    def _facts(self) -> str:
        """One row per event: the declared properties, typed; every value rounded once to 1e-9."""
        texts = ", ".join(
            f"left(json_extract_string(properties, '$.{field}'), {_MOST_DIMENSION_CHARACTERS}) AS {field}"
            for field in TEXT_FIELDS
        )
        # The JSON text of a string keeps its quotes, so that only a number casts to one.
        numbers = ", ".join(
            f"TRY_CAST(json_extract(properties, '$.{field}')::VARCHAR AS DOUBLE) AS {field}"
            for field in NUMBER_FIELDS
        )
        rounded = "".join(
            f", CASE WHEN abs({value}) <= {_LIMIT} THEN ({value})::{_DECIMAL} END AS v{position}"
            for position, value in enumerate(self.values)
        )
        weighed = "".join(f", {weight} AS w{position}" for position, weight in enumerate(self.weights))
        return f"""
            CREATE OR REPLACE TEMP TABLE facts AS
            WITH typed AS (
                SELECT date_trunc('minute', timestamp) AS minute, event_type, user_id, session_id,
                    is_late, hash_high, hash_low, {texts}, {numbers}
                FROM batch
            )
            SELECT minute, event_type, user_id, session_id, is_late, hash_high, hash_low,
                {", ".join(TEXT_FIELDS)}{rounded}{weighed}
            FROM typed
        """

    def _base(self) -> str:
        """One row per minute, type and text properties: far fewer than events, and all that sums need."""
        values = "".join(
            f", count(v{i}) AS v{i}_count, sum(v{i}) AS v{i}_sum, min(v{i}) AS v{i}_min, max(v{i}) AS v{i}_max"
            for i in range(len(self.values))
        )
        weights = "".join(f", sum(w{i}) AS w{i}_sum" for i in range(len(self.weights)))
        return f"""
            CREATE OR REPLACE TEMP TABLE base AS
            SELECT minute, event_type, {", ".join(TEXT_FIELDS)}, count(*) AS events{values}{weights}
            FROM facts GROUP BY ALL
        """

    def _group(self, dimensions: tuple[str, ...], metrics: list[Metric]) -> str:
        """One row per minute and values of the dimensions; count, sum, min and max of each metric side by side."""
        columns = "".join(
            ", " + column
            for position, metric in enumerate(metrics)
            for column in self._columns(metric, position)
        )
        names = "".join(f", {name}" for name in dimensions)
        return f"SELECT minute, {_json(dimensions)} AS dimensions{columns} FROM base GROUP BY minute{names}"

    def _columns(self, metric: Metric, position: int) -> Iterator[str]:
        found = {"count": "sum(events)", "sum": "", "min": "", "max": ""}
        if metric.value is not None:
            v = f"v{self.values.index(metric.value)}"
            found = {
                "count": f"sum({v}_count)",
                "sum": f"sum({v}_sum)",
                "min": f"min({v}_min)",
                "max": f"max({v}_max)",
            }
        if metric.weight != "1":
            # Of a ratio, the smallest and largest contribution mean nothing.
            found |= {"count": f"sum(w{self.weights.index(metric.weight)}_sum)", "min": "", "max": ""}
        types = {"count": "BIGINT", "sum": _DECIMAL, "min": "DOUBLE", "max": "DOUBLE"}
        only = f" FILTER ({_where(metric)})" if metric.event_types else ""
        for name, expression in found.items():
            yield (
                f"({expression}{only})::{types[name]} AS {name}{position}"
                if expression
                else f"NULL::{types[name]} AS {name}{position}"
            )

    def _histogram(self, metric: Metric) -> str:
        """The bins of a quantile metric in the order `_packed` wants, all its dimension sets at once."""
        v = f"v{self.values.index(metric.value or '')}"
        magnitude = f"ceil(ln(abs({v}::DOUBLE)) / {states.LN_GAMMA!r})::INTEGER + {states.BIN_OFFSET}"
        parts = " UNION ALL ".join(
            f"""
            SELECT {_literal(dimension_set_name(dimensions))} AS part, minute, {_json(dimensions)} AS dimensions,
                key, sum(count)::BIGINT AS count
            FROM bins GROUP BY minute, key{"".join(f", {name}" for name in dimensions)}
            """
            for dimensions in metric.dimension_sets
        )
        return f"""
            WITH bins AS (
                SELECT minute, {", ".join(TEXT_FIELDS)}, count(*) AS count,
                    CASE WHEN {v} = 0 THEN 0 WHEN {v} > 0 THEN {magnitude} ELSE -({magnitude}) END::SMALLINT AS key
                FROM facts {_where(metric, f"{v} IS NOT NULL")}
                GROUP BY ALL
            )
            {parts} ORDER BY part, minute, dimensions, key
        """

    def _hashes(self) -> str:
        """The hashes of distinct values, in the order `_packed` wants, all metrics at once."""
        return (
            " UNION ALL ".join(
                f"""
            SELECT {_literal(metric.metric_id)} AS part, minute, '{{}}' AS dimensions, md5_number_lower(value) AS key
            FROM (
                SELECT DISTINCT minute, {metric.value} AS value
                FROM facts {_where(metric, f"{metric.value} IS NOT NULL")}
            )
            """
                for metric in self.distincts
            )
            + " ORDER BY part, minute, key"
        )

    def _register(self) -> str:
        counts = "".join(
            f", count({metric.value}) {f'FILTER ({_where(metric)})' if metric.event_types else ''}"
            for metric in self.distincts
        )
        return f"""
            SELECT epoch_us(minute), count(*), count(*) FILTER (WHERE is_late),
                sum(hash_high)::VARCHAR, sum(hash_low)::VARCHAR{counts}
            FROM facts GROUP BY minute
        """


def _json(dimensions: tuple[str, ...]) -> str:
    if not dimensions:
        return "'{}'"
    return "json_object(" + ", ".join(f"'{name}', {name}" for name in sorted(dimensions)) + ")::VARCHAR"


def _where(metric: Metric, *conditions: str) -> str:
    found = list(conditions)
    if metric.event_types:
        found.append("event_type IN (" + ", ".join(_literal(name) for name in metric.event_types) + ")")
    return "WHERE " + " AND ".join(found) if found else ""
