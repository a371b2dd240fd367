"""Results of metrics as JSON.

Belongs here: turning arrays into the fields of an answer. Does not belong here: their meaning (`reading`, `schemas`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.rollups.cardinality import OTHER
from analytics_pipeline.rollups.catalog import Aggregation
from api.cache import Answer
from api.metrics.cursors import Cursor
from api.metrics.decimals import differences
from api.metrics.points import place_of
from api.metrics.reading import MetricResult
from api.metrics.register import STATES, Day
from api.times import format_time

UNKNOWN = "The catalog has no metric of this name."
BEYOND_BUDGET = "There were more values than the metric's budget of series: the rest is counted as __other__."
EMPTY = "No bucket of this interval starts in the range: begin it earlier, or ask for a shorter interval."
GONE = "The range begins before rows of this interval are kept: what is missing there may have been deleted."
NOT_COMPUTED = "The range begins before the metric was computed: what is missing there waits for a backfill."

_WHOLE = frozenset({Aggregation.COUNT.value, Aggregation.SKIPPED.value, Aggregation.DISTINCT.value})
_STATE_NAMES = (*STATES, None)


def answer(results: Sequence[MetricResult]) -> Answer:
    """The answer to one question, as it is when computed and as it is when it comes from the cache."""
    warnings = warnings_of(results)

    def body(*, cached: bool) -> bytes:
        found = [shown(result, cached=cached) for result in results]
        is_one = len(found) == 1
        content: dict[str, object] = {"cached": cached}
        content["result" if is_one else "results"] = found[0] if is_one else found
        if warnings:
            content["warnings"] = warnings
        return orjson.dumps(content, option=orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY)

    fresh = body(cached=False)
    if any(result.query.frame.explain for result in results):
        return Answer(fresh, body(cached=True))
    return Answer(fresh, b'{"cached":true' + fresh.removeprefix(b'{"cached":false'))


def warnings_of(results: Sequence[MetricResult]) -> list[str]:
    """What is to be said of them, each once."""
    found = []
    for result in results:
        if result.query.metric is None:
            found.append(UNKNOWN)
            continue
        if not len(result.query.frame.buckets.starts):
            found.append(EMPTY)
        if result.query.frame.are_gone(result.query.frame.buckets).any():
            found.append(GONE)
        if result.query.is_before_service(result.query.frame.buckets).any():
            found.append(NOT_COMPUTED)
        if result.query.top is None and any(OTHER in name for name in result.points.cells.names):
            found.append(BEYOND_BUDGET)
    return list(dict.fromkeys(found))


def shown(result: MetricResult, *, cached: bool) -> dict[str, Any]:
    """The result of one metric; dimensions are fragments of JSON."""
    query, points = result.query, result.points
    frame = query.frame
    found: dict[str, Any] = {
        "metric_name": query.metric_name,
        "interval": frame.buckets.interval,
        "start_time": format_time(frame.start),
        "end_time": format_time(frame.end),
        "data_points": _data_points(result),
        "total_count": len(points),
        "aggregation": query.aggregation,
        "time_zone": frame.buckets.zone.key,
        "precision": result.precision.name,
        "relative_error": result.precision.relative_error,
    }
    if points.has_more and len(points):
        place = place_of(points, frame, len(points) - 1)
        found["next_cursor"] = Cursor(place, frame.start, frame.end, query.mark).text()
    if frame.explain:
        found["explain"] = {
            "cache": "hit" if cached else "miss",
            "level": frame.buckets.level,
            "rows_read": {"settled": result.rows.settled, "pending": result.rows.pending},
            "days": [_day(day, query.series.reach) for day in result.days],
        }
    return found


def _day(day: Day, reach: Reach) -> dict[str, Any]:
    """The version of a day; how many batches are pending is of all events, as are batches."""
    found = day._asdict()
    if not reach.is_everything:
        del found["pending_batches"]
    return found


def _data_points(result: MetricResult) -> list[dict[str, Any]]:
    points, frame = result.points, result.query.frame
    cells = points.cells
    bucket, series = cells.bucket.tolist(), cells.series.tolist()
    times = np.datetime_as_string(frame.buckets.starts.astype("datetime64[us]"), unit="s").tolist()
    states = [_STATE_NAMES[code] for code in result.register.state.tolist()]
    revisions = result.register.revision.tolist()
    is_grouped = result.query.series.shown is not None
    names = [orjson.Fragment(name if is_grouped else "{}") for name in cells.names]
    found = [
        {
            "timestamp": times[at] + "Z",
            "value": value,
            "dimensions": names[name],
            "state": states[at],
            "revision": revisions[at],
        }
        for at, name, value in zip(bucket, series, _numbers(result, cells.values), strict=True)
    ]
    for name in ("open", "high", "low", "close"):
        if name in cells.more:
            for point, value in zip(found, _plain(cells.more[name]), strict=True):
                point[name] = value
    for name, flags in (
        ("pending", result.register.is_pending[cells.bucket]),
        ("incomplete", result.marks.is_incomplete[cells.bucket]),
        ("predecessor", result.marks.is_predecessor[cells.bucket]),
        ("filled", points.is_filled),
        ("unbounded", points.is_unbounded),
        ("compared_unbounded", points.is_compared_unbounded),
    ):
        for place in np.flatnonzero(flags).tolist():
            found[place][name] = True
    if points.counts is not None:
        for point, count in zip(found, points.counts.tolist(), strict=True):
            point["count"] = count
        if result.query.series.reach.is_everything:
            # Of all events of the bucket: a key that sees only a part of them is not told.
            for point, late in zip(found, result.register.late_count[cells.bucket].tolist(), strict=True):
                point["late_count"] = late
    if points.compared is not None:
        _compare(found, result)
    return found


def _compare(found: list[dict[str, Any]], result: MetricResult) -> None:
    earlier, values = result.points.compared, result.points.cells.values
    assert earlier is not None
    change = differences(values, earlier)
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = 100 * change / np.abs(earlier)
    for point, before, difference, share in zip(
        found, _numbers(result, earlier), _numbers(result, change), _plain(percent), strict=True
    ):
        point |= {"compared": before, "change": difference, "change_percent": share}


def _numbers(result: MetricResult, values: Any) -> list[float | int | None]:
    """Values as they are shown: whole where they count something, null where there is none."""
    if result.query.aggregation not in _WHOLE:
        return _plain(values)
    is_there = np.isfinite(values)
    whole: list[float | int | None] = np.where(is_there, values, 0).astype(np.int64).tolist()
    if not is_there.all():
        for place in np.flatnonzero(~is_there).tolist():
            whole[place] = None
    return whole


def _plain(values: Any) -> list[float | int | None]:
    found: list[float | int | None] = values.tolist()
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        found[place] = None
    return found
