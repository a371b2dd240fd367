"""Results of metrics as JSON.

Belongs here: turning arrays into the fields of an answer. Does not belong here: their meaning (`reading`, `schemas`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
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
from api.metrics.values import Numbers
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
        return orjson.dumps(content, option=orjson.OPT_UTC_Z)

    fresh = body(cached=False)
    if any(result.query.frame.explain for result in results):
        return Answer(fresh, body(cached=True))
    return Answer(fresh, b'{"cached":true' + fresh.removeprefix(b'{"cached":false'))


def warnings_of(results: Sequence[MetricResult]) -> list[str]:
    """What is to be said of them, each once."""
    found = []
    for result in results:
        if result.query.metric is None:
            near = result.query.nearest
            found.append(f"{UNKNOWN} The nearest is {near}." if near else UNKNOWN)
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


def _data_points(result: MetricResult) -> orjson.Fragment:
    """The points as JSON, put together of texts by column: an object of Python for each would take twice as long.

    What is said of a bucket is made once for all its points.
    """
    points = result.points
    cells = points.cells
    heads, tails = _of_buckets(result)
    is_grouped = result.query.series.shown is not None
    names = [b',"dimensions":' + (name.encode() if is_grouped else b"{}") for name in cells.names]
    bucket, series = cells.bucket.tolist(), cells.series.tolist()
    columns = [
        [heads[at] for at in bucket],
        _numbers(result, cells.values),
        [names[place] for place in series],
        [tails[at] for at in bucket],
    ]
    for name in ("open", "high", "low", "close"):
        if name in cells.more:
            columns += _column(name, _texts(cells.more[name]))
    for name, flags in (
        ("filled", points.is_filled),
        ("unbounded", points.is_unbounded),
        ("compared_unbounded", points.is_compared_unbounded),
    ):
        if flags.any():
            columns.append(_flagged(name, flags))
    if points.counts is not None:
        columns += _column("count", _texts(points.counts))
        if result.query.series.reach.is_everything:
            # Of all events of the bucket: a key that sees only a part of them is not told.
            columns += _column("late_count", _texts(result.register.late_count[cells.bucket]))
    if points.compared is not None:
        columns += _comparison(result, points.compared)
    columns.append([b"},"] * len(bucket))
    return orjson.Fragment(b"[" + b"".join(_woven(columns)).removesuffix(b",") + b"]")


def _of_buckets(result: MetricResult) -> tuple[list[bytes], list[bytes]]:
    """What stands before the value and after the dimensions of each point of a bucket."""
    register, marks = result.register, result.marks
    starts = result.query.frame.buckets.starts.astype("datetime64[us]")
    heads = [
        f'{{"timestamp":"{time}Z","value":'.encode()
        for time in np.datetime_as_string(starts, unit="s").tolist()
    ]
    states = [f',"state":{orjson.dumps(state).decode()},"revision":'.encode() for state in _STATE_NAMES]
    columns = [[states[code] for code in register.state.tolist()], _texts(register.revision)]
    for name, flags in (
        ("pending", register.is_pending),
        ("incomplete", marks.is_incomplete),
        ("predecessor", marks.is_predecessor),
    ):
        columns.append(_flagged(name, flags))
    return heads, list(map(b"".join, zip(*columns, strict=True)))


def _woven(columns: Sequence[Sequence[bytes]]) -> list[bytes]:
    """The texts of the first point, then those of the next."""
    found = [b""] * (len(columns) * len(columns[0]))
    for place, column in enumerate(columns):
        found[place :: len(columns)] = column
    return found


def _comparison(result: MetricResult, earlier: Numbers) -> list[list[bytes]]:
    change = differences(result.points.cells.values, earlier)
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = 100 * change / np.abs(earlier)
    return [
        *_column("compared", _numbers(result, earlier)),
        *_column("change", _numbers(result, change)),
        *_column("change_percent", _texts(percent)),
    ]


def _column(name: str, texts: list[bytes]) -> list[list[bytes]]:
    """A field of every point."""
    return [[f',"{name}":'.encode()] * len(texts), texts]


def _flagged(name: str, flags: npt.NDArray[np.bool_]) -> list[bytes]:
    """A field of those that are flagged."""
    text = f',"{name}":true'.encode()
    return [text if flag else b"" for flag in flags.tolist()]


def _numbers(result: MetricResult, values: Numbers) -> list[bytes]:
    """Values as they are shown: whole where they count something, null where there is none."""
    if result.query.aggregation not in _WHOLE:
        return _texts(values)
    is_there = np.isfinite(values)
    whole = _texts(np.where(is_there, values, 0).astype(np.int64))
    for place in np.flatnonzero(~is_there).tolist():
        whole[place] = b"null"
    return whole


def _texts(values: npt.NDArray[Any]) -> list[bytes]:
    """Numbers as JSON, null where one is not finite."""
    if not len(values):
        return []
    dumped = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    return dumped[1:-1].split(b",")
