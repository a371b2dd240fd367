"""The same result by SQL alone, as a careful engineer would write it without the product: what a recompute must beat.

Belongs here: the statements, which follow from the catalog, and whether they found what the product did.
Does not belong here: timing.

All sums come from one scan, grouped so finely that every metric and level follows from its few thousand rows; exact
percentiles from a sort of the values they need, once read; exact distinct counts from the distinct values of each
minute; first and last values by looking up the times that one scan found. Scans run in parallel workers, with room to
sort in memory. Unlike the product, sums are in double precision and no state is kept: what is late means doing all of
it again.

Tuned, the one scan evaluates each value once and not once per aggregate, behind the fence `OFFSET 0`: what somebody
writes who reads plans and knows that trick.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import psycopg

from analytics_pipeline.rollups.catalog import NUMBER_FIELDS, TEXT_FIELDS, Kind, Metric, dimension_set_name
from analytics_pipeline.rollups.schema import LEVELS
from benchmarks.books import Refused

_SETTINGS = ("SET work_mem = '256MB'", "SET max_parallel_workers_per_gather = 2")
_TABLE = """
CREATE TABLE plain_rollups (
    metric_name text, interval text, time_bucket timestamptz, dimension_set text, dimensions jsonb,
    count bigint, sum double precision, avg double precision, min double precision, max double precision,
    p50 double precision, p95 double precision, p99 double precision, distinct_count bigint,
    first double precision, last double precision
)
"""
_COLUMNS = "metric_name, interval, time_bucket, dimension_set, dimensions, count, sum, avg, min, max"
_INTERVALS = [level for level, seconds in LEVELS.items() if seconds <= 3600]
_FINE = ("minute", "event_type", *TEXT_FIELDS)
_DIFFERENT = """
SELECT count(*) FROM plain_rollups AS plain
FULL JOIN (SELECT * FROM metric_aggregations WHERE interval <> '1d') AS ours
    USING (metric_name, interval, time_bucket, dimension_set, dimensions)
WHERE plain.count IS DISTINCT FROM ours.count
    OR abs(plain.sum - ours.sum) > 1e-9 * abs(plain.sum) + 1e-6
    OR (plain.min IS NULL) <> (ours.min IS NULL)
    OR abs(plain.min - ours.min) > 1e-9 * abs(plain.min) + 1e-9
    OR abs(plain.max - ours.max) > 1e-9 * abs(plain.max) + 1e-9
    OR (plain.p50 IS NULL) <> (ours.p50 IS NULL)
    OR plain.count > 1000 AND greatest(
        abs(plain.p50 - ours.p50) / plain.p50, abs(plain.p95 - ours.p95) / plain.p95
    ) > 0.02
    OR (plain.first IS NULL) <> (ours.first IS NULL)
    OR abs(plain.first - ours.first) > 1e-9 * abs(plain.first) + 1e-9
    OR abs(plain.last - ours.last) > 1e-9 * abs(plain.last) + 1e-9
    OR abs(plain.distinct_count - ours.distinct_count) > 0.15 * plain.distinct_count
    OR plain.distinct_count <= 1024 AND plain.distinct_count <> ours.distinct_count
"""


def statements(metrics: Sequence[Metric], hour: datetime, *, is_tuned: bool) -> Iterator[str]:
    """Everything that fills `plain_rollups` with these metrics of one hour, at 1m, 5m, 15m and 1h."""
    yield from _SETTINGS
    yield _TABLE
    span = f"timestamp >= '{hour.isoformat()}' AND timestamp < '{(hour + timedelta(hours=1)).isoformat()}'"
    summed = [metric for metric in metrics if metric.kind is not Kind.DISTINCT]
    values = sorted({(metric.value, metric.event_types) for metric in summed if metric.value is not None})
    yield (_tuned_sums if is_tuned else _fine_sums)(values, span)
    for metric in summed:
        place = values.index((metric.value, metric.event_types)) if metric.value is not None else None
        is_quantile = metric.kind is Kind.QUANTILE
        if is_quantile:
            yield _values(metric, span)
        if metric.kind is Kind.ENDS:
            yield _ends(metric, span)
        for level in _INTERVALS:
            for dimensions in metric.dimension_sets:
                yield _level_of_sums(metric, dimensions, level, place)
            if is_quantile:
                yield _level_of_percentiles(metric, level)
            if metric.kind is Kind.ENDS:
                yield _level_of_ends(metric, level)
    for metric in metrics:
        if metric.kind is Kind.DISTINCT:
            yield from _distinct(metric, span)


def run(
    connection: psycopg.Connection, metrics: Sequence[Metric], hour: datetime, *, is_tuned: bool = False
) -> None:
    """Run them, in one transaction."""
    for statement in statements(metrics, hour, is_tuned=is_tuned):
        connection.execute(statement.encode())
    connection.commit()


def check(connection: psycopg.Connection) -> None:
    """Compare with what the product wrote, within what its states promise; then drop the table.

    Raises:
        Refused: there is nothing, or rows differ.
    """
    rows = connection.execute("SELECT count(*) FROM plain_rollups").fetchone()
    different = connection.execute(_DIFFERENT.encode()).fetchone()
    connection.execute("DROP TABLE plain_rollups")
    connection.commit()
    if not rows or not rows[0] or not different or different[0]:
        raise Refused(f"the figure is refused: {different} of {rows} rows of plain SQL are not the product's")


def _fine_sums(values: Sequence[tuple[str, tuple[str, ...]]], span: str) -> str:
    groups = "date_trunc('minute', timestamp) AS minute, event_type, " + ", ".join(
        f"{_field(name)} AS {name}" for name in TEXT_FIELDS
    )
    sums = "".join(
        f""", count({sql}) {kept} AS count_{place}, sum({sql}) {kept} AS sum_{place},
            min({sql}) {kept} AS min_{place}, max({sql}) {kept} AS max_{place}"""
        for place, (sql, kept) in enumerate((_expression(value), _of_types(types)) for value, types in values)
    )
    numbers = ", ".join(str(number + 1) for number in range(len(_FINE)))
    return f"""
        CREATE TEMP TABLE plain_sums ON COMMIT DROP AS
        SELECT {groups}, count(*) AS events{sums} FROM events WHERE {span} GROUP BY {numbers}
    """


def _tuned_sums(values: Sequence[tuple[str, tuple[str, ...]]], span: str) -> str:
    texts = ", ".join(f"{_field(name)} AS {name}" for name in TEXT_FIELDS)
    computed = "".join(
        f", CASE {_where(types).replace('WHERE', 'WHEN', 1)} THEN {_expression(value)} END AS v{place}"
        if types
        else f", {_expression(value)} AS v{place}"
        for place, (value, types) in enumerate(values)
    )
    sums = "".join(
        f""", count(v{place}) AS count_{place}, sum(v{place}) AS sum_{place},
            min(v{place}) AS min_{place}, max(v{place}) AS max_{place}"""
        for place in range(len(values))
    )
    return f"""
        CREATE TEMP TABLE plain_sums ON COMMIT DROP AS
        SELECT {", ".join(_FINE)}, count(*) AS events{sums}
        FROM (
            SELECT date_trunc('minute', timestamp) AS minute, event_type, {texts}{computed}
            FROM events WHERE {span} OFFSET 0
        ) AS evaluated
        GROUP BY {", ".join(_FINE)}
    """


def _level_of_sums(metric: Metric, dimensions: Sequence[str], level: str, place: int | None) -> str:
    if metric.ratio is not None:
        numerator, denominator = metric.ratio
        count = f"coalesce(sum(events) FILTER (WHERE event_type = '{denominator}'), 0)::bigint"
        total = f"100 * coalesce(sum(events) FILTER (WHERE event_type = '{numerator}'), 0)::double precision"
        extremes = ("NULL::double precision", "NULL::double precision")
    elif place is None:
        count, total = "sum(events)::bigint", "NULL::double precision"
        extremes = ("NULL::double precision", "NULL::double precision")
    else:
        count, total = f"sum(count_{place})::bigint", f"sum(sum_{place})"
        extremes = (f"min(min_{place})", f"max(max_{place})")
    having = "" if place is None else f"HAVING sum(count_{place}) > 0"
    name = f"'{metric.name}'"
    if metric.name_by_dimension and dimensions:
        name += f" || '.' || {dimensions[0]}"
    return f"""
        INSERT INTO plain_rollups ({_COLUMNS})
        SELECT {name}, '{level}', bucket, '{dimension_set_name(tuple(dimensions))}', {_jsonb(dimensions)},
            count, sum, sum / nullif(count, 0), min, max
        FROM (
            SELECT {", ".join([f"{_bucket(level)} AS bucket", *dimensions])},
                {count} AS count, {total} AS sum, {extremes[0]} AS min, {extremes[1]} AS max
            FROM plain_sums {_where(metric.event_types)} GROUP BY {", ".join(["1", *dimensions])} {having}
        ) AS summed
    """


def _values(metric: Metric, span: str) -> str:
    texts = ", ".join(f"{_field(name)} AS {name}" for name in TEXT_FIELDS)
    return f"""
        CREATE TEMP TABLE "plain_{metric.metric_id}" ON COMMIT DROP AS
        SELECT date_trunc('minute', timestamp) AS minute, {texts}, {_expression(metric.value or "")} AS value
        FROM events {_where(metric.event_types, span)}
    """


def _level_of_percentiles(metric: Metric, level: str) -> str:
    sets = ", ".join(f"({', '.join(['1', *dimensions])})" for dimensions in metric.dimension_sets)
    used = sorted({name for dimensions in metric.dimension_sets for name in dimensions})
    names = "".join(f", {name}" for name in used)
    bits = f"GROUPING({', '.join(used)})" if used else "0"
    cases = " ".join(
        f"WHEN {_bits(used, dimensions)} THEN {{}}".format(result)
        for dimensions in metric.dimension_sets
        for result in [f"'{dimension_set_name(dimensions)}'"]
    )
    documents = " ".join(
        f"WHEN {_bits(used, dimensions)} THEN {_jsonb(dimensions)}" for dimensions in metric.dimension_sets
    )
    return f"""
        UPDATE plain_rollups AS plain SET p50 = found.p[1], p95 = found.p[2], p99 = found.p[3]
        FROM (
            SELECT bucket, CASE bits {cases} END AS dimension_set, CASE bits {documents} END AS dimensions, p
            FROM (
                SELECT {_bucket(level)} AS bucket{names}, {bits} AS bits,
                    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY value) AS p
                FROM "plain_{metric.metric_id}" WHERE value IS NOT NULL GROUP BY GROUPING SETS ({sets})
            ) AS sorted
        ) AS found
        WHERE plain.metric_name = '{metric.name}' AND plain.interval = '{level}'
            AND plain.time_bucket = found.bucket AND plain.dimension_set = found.dimension_set
            AND plain.dimensions = found.dimensions
    """


def _ends(metric: Metric, span: str) -> str:
    """Of each minute and series, its first and last value: looked up by time, once the times are known."""
    [dimensions] = metric.dimension_sets
    texts = "".join(f", {_field(name)} AS {name}" for name in dimensions)
    names = "".join(f", {name}" for name in dimensions)
    value = _expression(metric.value or "")
    return f"""
        CREATE TEMP TABLE "plain_{metric.metric_id}" ON COMMIT DROP AS
        SELECT minute{names}, {_end(metric, "first_at", "id")} AS first, {_end(metric, "last_at", "id DESC")} AS last
        FROM (
            SELECT date_trunc('minute', timestamp) AS minute{texts},
                min(timestamp) AS first_at, max(timestamp) AS last_at
            FROM events {_where(metric.event_types, span, f"{value} IS NOT NULL")}
            GROUP BY {", ".join(str(number + 1) for number in range(1 + len(dimensions)))}
        ) AS found
    """


def _end(metric: Metric, at: str, order: str) -> str:
    value = _expression(metric.value or "")
    same = [f"{_field(name)} IS NOT DISTINCT FROM found.{name}" for name in metric.dimension_sets[0]]
    kept = _where(metric.event_types, f"timestamp = found.{at}", f"{value} IS NOT NULL", *same)
    return f"(SELECT {value} FROM events {kept} ORDER BY {order} LIMIT 1)"


def _level_of_ends(metric: Metric, level: str) -> str:
    [dimensions] = metric.dimension_sets
    names = "".join(f", {name}" for name in dimensions)
    return f"""
        UPDATE plain_rollups AS plain SET first = found.first, last = found.last
        FROM (
            SELECT {_bucket(level)} AS bucket, {_jsonb(dimensions)} AS dimensions,
                (array_agg(first ORDER BY minute))[1] AS first, (array_agg(last ORDER BY minute DESC))[1] AS last
            FROM "plain_{metric.metric_id}" GROUP BY 1{names}
        ) AS found
        WHERE plain.metric_name = '{metric.name}' AND plain.interval = '{level}'
            AND plain.time_bucket = found.bucket AND plain.dimensions = found.dimensions
    """


def _distinct(metric: Metric, span: str) -> Iterator[str]:
    value = str(metric.value)
    table = f'"plain_{metric.metric_id}"'
    if value in TEXT_FIELDS:
        read = f"{value} AS value, sum(events) AS events FROM plain_sums {_where(metric.event_types)}"
        minute = "minute"
    else:
        read = f"{value} AS value, count(*) AS events FROM events {_where(metric.event_types, span)}"
        minute = "date_trunc('minute', timestamp) AS minute"
    yield f"CREATE TEMP TABLE {table} ON COMMIT DROP AS SELECT {minute}, {read} GROUP BY 1, 2"
    for level in _INTERVALS:
        yield f"""
            INSERT INTO plain_rollups (
                metric_name, interval, time_bucket, dimension_set, dimensions, count, distinct_count
            )
            SELECT '{metric.name}', '{level}', {_bucket(level)}, '', '{{}}', sum(events), count(DISTINCT value)
            FROM {table} WHERE value IS NOT NULL GROUP BY 3
        """


def _field(name: str) -> str:
    return f"properties ->> '{name}'"


def _expression(value: str) -> str:
    """A value of the catalog over the columns of `events`."""
    return re.sub(
        r"\b(" + "|".join(NUMBER_FIELDS) + r")\b",
        lambda found: f"({_field(found[1])})::double precision",
        value,
    )


def _of_types(types: Sequence[str]) -> str:
    return f"FILTER {_where(types)}".replace("WHERE", "(WHERE", 1) + ")" if types else ""


def _where(types: Sequence[str], *conditions: str) -> str:
    found = list(conditions)
    if types:
        found.append("event_type IN (" + ", ".join(f"'{kind}'" for kind in types) + ")")
    return "WHERE " + " AND ".join(found) if found else ""


def _bucket(level: str) -> str:
    return f"date_bin('{LEVELS[level]} seconds', minute, '2000-01-01 00:00:00+00')"


def _jsonb(dimensions: Sequence[str]) -> str:
    return "jsonb_build_object(" + ", ".join(f"'{name}', {name}" for name in sorted(dimensions)) + ")"


def _bits(used: Sequence[str], dimensions: Sequence[str]) -> int:
    """What GROUPING says where only these are grouped by."""
    return sum(1 << place for place, name in enumerate(reversed(used)) if name not in dimensions)
