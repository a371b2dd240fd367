"""The statements that read points: settled + pending, at every level, for every version of a metric at once.

Belongs here: SQL and its parameters. Does not belong here: running it (`repository`), what rows mean (`values`).

Every number is the settled row of its level plus the pending deltas whose minute lies in the same bucket; a merge
moves deltas to all levels in one transaction, so the sum is true in every snapshot. A series comes as one row, its
columns packed as big-endian numbers, because thousands of rows cost more in Python than in Postgres.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from psycopg.sql import SQL, Composable, Composed, Placeholder

from analytics_pipeline.rollups.cardinality import OTHER
from analytics_pipeline.rollups.catalog import Aggregation
from api.metrics import measures
from api.metrics.buckets import Buckets, Part, moment
from api.metrics.cursors import Place
from api.metrics.filters import conditions
from api.metrics.parameters import Order
from api.metrics.query import MetricQuery
from api.metrics.values import Positions
from api.reach_sql import series_in

Statement = tuple[Composed, dict[str, Any]]

_SETTLED = SQL("""
    SELECT {at} AS at, {dimensions} AS dimensions, {columns}
    FROM metric_aggregations
    WHERE {which} AND interval = %(level)s::text AND dimension_set = %(dimension_set)s::text {part}
        AND time_bucket >= {first}::timestamptz AND time_bucket < {end}::timestamptz
""")
_PENDING = SQL("""
    SELECT {at} AS at, {dimensions} AS dimensions, {columns}
    FROM rollup_deltas
    WHERE {which} AND kind <> 'register' AND dimension_set = %(dimension_set)s::text {part}
        AND minute >= {first}::timestamptz AND minute < {end}::timestamptz
""")
_STATES = SQL("""
    SELECT {at} AS at, {dimensions} AS dimensions, {columns}
    FROM metric_states
    WHERE metric_id = {metric_id}::text AND interval = %(level)s::text
        AND dimension_set = %(dimension_set)s::text {part}
        AND time_bucket >= {first}::timestamptz AND time_bucket < {end}::timestamptz
""")
_SETTLED_SUMS = SQL("count, coalesce(sum_exact, sum::numeric) AS sum, min, max, false AS is_pending")
# Of a row alone: its sum is its decimals as the nearest double, or was imported as one. To turn them into doubles once
# more would take as long as all the rest of a long range.
_ALONE_SUMS = SQL("count, sum, min, max, false AS is_pending")
_PENDING_SUMS = SQL("count, sum, min, max, true AS is_pending")
_STATE = SQL("state")
_PENDING_STATE = SQL("state, true AS is_pending")
_SETTLED_STATE = SQL("state, false AS is_pending")

_ADDED_UP = SQL("""
SELECT at, dimensions, sum(count)::bigint AS count, sum(sum)::double precision AS sum, min(min) AS min,
    max(max) AS max, count(*) AS read, count(*) FILTER (WHERE is_pending) AS pending
FROM ({rows}) AS rows
GROUP BY at, dimensions
""")
# Where a cell is one settled row, only those from the first pending bucket on are added up: grouping by a time and a
# document costs most of what thousands of cells cost.
_ALONE = SQL("""
WITH waiting AS MATERIALIZED ({pending}), since AS MATERIALIZED (
    SELECT coalesce(min(at), 'infinity') AS at FROM waiting
)
SELECT at, dimensions, count, sum, min, max, 1 AS read, 0 AS pending
FROM ({before}) AS settled
UNION ALL
{added_up}
""")
_ALL = SQL("")
_BEFORE = SQL(" AND time_bucket < (SELECT at FROM since)")
_SINCE = SQL(" AND time_bucket >= (SELECT at FROM since)")
_NAMED = SQL(" AND dimensions = ANY(%(named)s::text[]::jsonb[])")
_OTHERS = SQL(" AND dimensions <> ALL(%(named)s::text[]::jsonb[])")
_SUMS = SQL("""
WITH cells AS (
    SELECT *
    FROM ({cells}) AS cells
    WHERE {defined} AND {after}
    {order}
    LIMIT %(limit)s
)
SELECT dimensions::text, sum(read)::bigint, sum(pending)::bigint,
    string_agg(timestamptz_send(at), ''::bytea),
    string_agg(int8send(count), ''::bytea),
    string_agg(float8send(coalesce(sum, 'NaN')), ''::bytea),
    string_agg(float8send(coalesce(min, 'NaN')), ''::bytea),
    string_agg(float8send(coalesce(max, 'NaN')), ''::bytea)
FROM cells
GROUP BY dimensions
""")
_RANKED = SQL("""
SELECT dimensions::text
FROM ({chosen}) AS chosen
WHERE dimensions <> %(rest)s::jsonb
GROUP BY dimensions
ORDER BY {value} DESC NULLS LAST, dimensions::text COLLATE "C"
LIMIT %(top)s
""")
# A cell without a value would take the place of a point on a page.
_DEFINED = {
    Aggregation.SUM: SQL("sum IS NOT NULL"),
    Aggregation.AVG: SQL("sum IS NOT NULL AND count > 0"),
    Aggregation.RATIO: SQL("sum IS NOT NULL AND count > 0"),
    Aggregation.MIN: SQL("min IS NOT NULL"),
    Aggregation.MAX: SQL("min IS NOT NULL"),
    Aggregation.OHLC: SQL("min IS NOT NULL"),
}
_RANKED_BY = {
    Aggregation.COUNT: SQL("sum(count)"),
    Aggregation.SUM: SQL("sum(sum)"),
    Aggregation.AVG: SQL("sum(sum) / nullif(sum(count), 0)"),
    Aggregation.RATIO: SQL("sum(sum) / nullif(sum(count), 0)"),
    Aggregation.MIN: SQL("min(min)"),
    Aggregation.MAX: SQL("max(max)"),
}
_DERIVED = SQL("""
WITH chosen AS ({chosen}), cells AS (
    SELECT * FROM chosen
    WHERE one IS NOT NULL AND {after}
    {order}
    LIMIT %(limit)s
)
SELECT dimensions::text, count(*), 0::bigint,
    string_agg(timestamptz_send(at), ''::bytea),
    string_agg(float8send(coalesce(one, 'NaN')), ''::bytea),
    string_agg(float8send(coalesce(other, 'NaN')), ''::bytea)
FROM cells
GROUP BY dimensions
""")
_NEWEST = SQL("""
WITH chosen AS ({chosen}), cells AS (
    SELECT DISTINCT ON (dimensions) * FROM chosen WHERE one IS NOT NULL ORDER BY dimensions, at DESC
)
SELECT dimensions::text, count(*), 0::bigint,
    string_agg(timestamptz_send(at), ''::bytea),
    string_agg(float8send(coalesce(one, 'NaN')), ''::bytea),
    string_agg(float8send(coalesce(other, 'NaN')), ''::bytea)
FROM cells
GROUP BY dimensions
""")
_CHANGED = SQL("""
WITH pending AS MATERIALIZED (
    SELECT * FROM ({pending}) AS states WHERE state IS NOT NULL LIMIT %(limit)s
)
SELECT dimensions::text, timestamptz_send(at), state, true FROM pending
UNION ALL
SELECT dimensions::text, timestamptz_send(at), state, false FROM ({settled}) AS settled
WHERE (at, dimensions) IN (SELECT at, dimensions FROM pending)
LIMIT %(limit)s
""")
_MERGED = SQL("""
SELECT dimensions::text, timestamptz_send(at), state, is_pending
FROM ({settled} UNION ALL {pending}) AS chosen
WHERE state IS NOT NULL
LIMIT %(limit)s
""")
_DERIVED_COLUMNS: dict[str, Composable] = {
    "p50": SQL("p50 AS one, NULL::double precision AS other"),
    "p95": SQL("p95 AS one, NULL::double precision AS other"),
    "p99": SQL("p99 AS one, NULL::double precision AS other"),
    # An estimate can come out below the number up to which counts are exact: its state tells.
    "distinct": SQL("""distinct_count::double precision AS one, CASE
            WHEN distinct_count > 1024 THEN 1.0
            WHEN distinct_count > 700 AND EXISTS (
                SELECT FROM metric_states AS kept
                WHERE kept.metric_id = metric_aggregations.metric_id AND kept.interval = metric_aggregations.interval
                    AND kept.dimension_set = metric_aggregations.dimension_set
                    AND kept.time_bucket = metric_aggregations.time_bucket
                    AND kept.dimensions = metric_aggregations.dimensions AND get_byte(kept.state, 1) = 1
            ) THEN 1.0
            ELSE 0.0
        END AS other"""),
}
_ENDS = SQL("first AS one, last AS other")


class Wanted(NamedTuple):
    """Which cells are read.

    Attributes:
        query: whose.
        buckets: by which rows are put together.
        parts: of these buckets.
        limit: most cells.
        is_page: whether no more cells than these are wanted; else there are too many if so many are found.
        named: the series that stand by themselves, as JSON text, others being the rest; None if all do.
        after: only cells behind this, in the query's order.
        newest: of what is settled only the newest cell of each series.
    """

    query: MetricQuery
    buckets: Buckets
    parts: Sequence[Part]
    limit: int
    is_page: bool = False
    named: Sequence[str] | None = None
    after: Place | None = None
    newest: bool = False

    def within(self, bucket: Positions) -> "Wanted":
        """Only the buckets from the first to the last of these, of which there is one at least."""
        begin, until = int(bucket.min()), int(bucket.max()) + 1
        parts = [
            replace(part, begin=max(part.begin, begin), until=min(part.until, until))
            for part in self.parts
            if part.begin < until and part.until > begin
        ]
        return self._replace(parts=parts)


def rest_of(query: MetricQuery) -> str:
    """The dimensions of what is left of the top, as Postgres prints them."""
    names = sorted(query.series.shown or (), key=lambda name: (len(name.encode()), name.encode()))
    return "{" + ", ".join(f'"{name}": "{OTHER}"' for name in names) + "}"


def sums(wanted: Wanted) -> Statement:
    """Count, sum, min and max of each cell."""
    parameters = _parameters(wanted)
    defined = _DEFINED.get(_summed(wanted.query), SQL("true"))
    cells = _cells(wanted, parameters)
    return _SUMS.format(cells=cells, defined=defined, **_page(wanted, parameters)), parameters


def _cells(wanted: Wanted, parameters: dict[str, Any]) -> Composed:
    query = wanted.query
    halves = ((_SETTLED, _SETTLED_SUMS), (_PENDING, _PENDING_SUMS))
    if query.series.is_added_up or wanted.buckets.is_composed or _is_of_many_names(query):
        return _ADDED_UP.format(rows=_union(wanted, parameters, halves))
    if wanted.named is None:
        return _alone(wanted, parameters)
    rest = _ADDED_UP.format(rows=_union(wanted, parameters, halves, _OTHERS))
    return _alone(wanted._replace(named=None), parameters, _NAMED) + SQL(" UNION ALL ") + rest


def _alone(wanted: Wanted, parameters: dict[str, Any], only: Composable = _ALL) -> Composed:
    """Cells of one settled row each, where nothing is pending."""
    pending = (_PENDING, _PENDING_SUMS)
    since = _union(wanted, parameters, ((_SETTLED, _SETTLED_SUMS),), only + _SINCE)
    return _ALONE.format(
        pending=_union(wanted, parameters, (pending,), only),
        before=_union(wanted, parameters, ((_SETTLED, _ALONE_SUMS),), only + _BEFORE),
        added_up=_ADDED_UP.format(rows=since + SQL(" UNION ALL SELECT * FROM waiting")),
    )


def ranked(wanted: Wanted, top: int) -> Statement:
    """The series with the highest values over all cells, highest first."""
    query = wanted.query
    parameters = _parameters(wanted) | {"top": top, "rest": rest_of(query)}
    chosen = _union(wanted, parameters, ((_SETTLED, _SETTLED_SUMS), (_PENDING, _PENDING_SUMS)))
    return _RANKED.format(chosen=chosen, value=_RANKED_BY[_summed(query)]), parameters


def derived(wanted: Wanted) -> Statement:
    """Settled values that are kept beside the states, of one series a cell; with `newest` one cell a series."""
    parameters = _parameters(wanted)
    columns = _DERIVED_COLUMNS.get(wanted.query.aggregation, _ENDS)
    chosen = _union(wanted, parameters, ((_SETTLED, columns),))
    if wanted.newest:
        return _NEWEST.format(chosen=chosen), parameters
    return _DERIVED.format(chosen=chosen, **_page(wanted, parameters)), parameters


def changed(wanted: Wanted) -> Statement:
    """All states of the cells in which something is pending, the pending ones first; no more than the limit."""
    parameters = _parameters(wanted)
    pending = _union(wanted, parameters, ((_PENDING, _STATE),))
    return _CHANGED.format(
        pending=pending, settled=_union(wanted, parameters, ((_STATES, _STATE),))
    ), parameters


def merged(wanted: Wanted) -> Statement:
    """All states of all cells."""
    parameters = _parameters(wanted)
    return _MERGED.format(
        settled=_union(wanted, parameters, ((_STATES, _SETTLED_STATE),)),
        pending=_union(wanted, parameters, ((_PENDING, _PENDING_STATE),)),
    ), parameters


def _summed(query: MetricQuery) -> Aggregation:
    """The aggregation of the catalog behind a rate."""
    if query.aggregation != measures.RATE:
        return Aggregation(query.aggregation)
    assert query.metric is not None
    return Aggregation.SUM if measures.sums_up(query.metric) else Aggregation.COUNT


def _parameters(wanted: Wanted) -> dict[str, Any]:
    return {
        "metric_name": wanted.query.metric_name,
        "level": wanted.buckets.level,
        "dimension_set": wanted.query.series.dimension_set,
        "limit": wanted.limit,
    }


def _is_of_many_names(query: MetricQuery) -> bool:
    """Whether the series of a question are kept under names of their own."""
    metric = query.metric
    assert metric is not None
    return metric.name_by_dimension and bool(query.series.dimension_set) and query.metric_name == metric.name


def _union(
    wanted: Wanted,
    parameters: dict[str, Any],
    halves: Sequence[tuple[SQL, Composable]],
    only: Composable = _ALL,
) -> Composed:
    """Rows of all versions, each in its own buckets; `only` says which of them."""
    query, buckets = wanted.query, wanted.buckets
    metric, series = query.metric, query.series
    assert metric is not None
    by_name = SQL("") if _is_of_many_names(query) else SQL("metric_name = %(metric_name)s::text AND ")
    seen, seen_values = series_in(series.reach, series.dimension_set)
    fitting, fitting_values = conditions(series.filters)
    parameters |= seen_values | fitting_values
    own = Composed([SQL(" AND ") + condition for condition in (*seen, *fitting)]) + only
    dimensions = _dimensions(wanted, parameters)
    arms = []
    for number, part in enumerate(wanted.parts):
        names = {name: f"{name}_{number}" for name in ("metric_id", "first", "end")}
        parameters |= {
            names["metric_id"]: part.served.metric_id,
            names["first"]: moment(buckets.edges[part.begin]),
            names["end"]: moment(buckets.edges[part.until]),
        }
        places = {name: Placeholder(place) for name, place in names.items()}
        which = by_name + SQL("metric_id = {}::text").format(places["metric_id"])
        for rows, columns in halves:
            at = _at(buckets, "minute" if rows is _PENDING else "time_bucket", parameters)
            common = {"at": at, "dimensions": dimensions, "columns": columns, "part": own}
            arms.append(rows.format(which=which, **common, **places))
    return SQL(" UNION ALL ").join(arms)


def _at(buckets: Buckets, column: str, parameters: dict[str, Any]) -> Composable:
    if buckets.is_composed:
        parameters["starts"] = [moment(at) for at in buckets.starts]
        return SQL("(%(starts)s::timestamptz[])[width_bucket({}, %(starts)s::timestamptz[])]").format(
            SQL("minute" if column == "minute" else "time_bucket")
        )
    return SQL("bucket_start(%(level)s::text, minute)" if column == "minute" else "time_bucket")


def _dimensions(wanted: Wanted, parameters: dict[str, Any]) -> Composable:
    series = wanted.query.series
    found: Composable
    if series.is_carried:
        return SQL("dimensions")
    if series.shown is None:
        return SQL("'{{}}'::jsonb").format()
    if set(series.shown) == set(series.stored):
        found = SQL("dimensions")
    else:
        pairs = []
        for number, name in enumerate(series.shown):
            parameters[f"shown_{number}"] = name
            place = Placeholder(f"shown_{number}")
            pairs.append(SQL("{}::text, dimensions -> {}::text").format(place, place))
        found = SQL("jsonb_build_object({})").format(SQL(", ").join(pairs))
    if wanted.named is None:
        return found
    parameters |= {"named": list(wanted.named), "rest": rest_of(wanted.query)}
    return SQL("CASE WHEN {} = ANY(%(named)s::text[]::jsonb[]) THEN {} ELSE %(rest)s::jsonb END").format(
        found, found
    )


def _page(wanted: Wanted, parameters: dict[str, Any]) -> dict[str, Composable]:
    """Which cells are behind the page before, and in which order; without pages none, as sorting texts costs most."""
    is_falling = wanted.query.frame.order is Order.DESC
    direction, beyond = (SQL("DESC"), SQL("<")) if is_falling else (SQL("ASC"), SQL(">"))
    order = SQL('ORDER BY at {}, dimensions::text COLLATE "C" {}').format(direction, direction)
    clauses: dict[str, Composable] = {"order": order if wanted.is_page else SQL(""), "after": SQL("true")}
    if wanted.after is None:
        return clauses
    parameters |= {"after_at": moment(wanted.after.at), "after_series": wanted.after.series}
    clauses["after"] = SQL(
        "(at {beyond} %(after_at)s::timestamptz OR (at = %(after_at)s::timestamptz"
        ' AND dimensions::text COLLATE "C" {beyond} %(after_series)s::text))'
    ).format(beyond=beyond)
    return clauses
