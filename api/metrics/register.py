"""What is known of buckets, whatever the metric: state, revision, gaps, and the versions of days.

Belongs here: reading that. Does not belong here: values (`repository`).
"""

from datetime import date, datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg.sql import SQL

from analytics_pipeline.events.times import micros
from api.database import Connection
from api.metrics.buckets import Buckets, Part, moment
from api.metrics.repository import Cursor, positions, times_of

_GAPS = """
SELECT hour FROM metric_gaps
WHERE metric_id = %(metric_id)s::text AND hour > %(first)s::timestamptz - interval '1 hour'
    AND hour < %(end)s::timestamptz
"""
_REGISTER = SQL("""
SELECT
    1 AS place,
    string_agg(timestamptz_send(time_bucket), ''::bytea),
    string_agg(int8send(revision), ''::bytea),
    string_agg(int8send(late_count), ''::bytea),
    string_agg(state, ',')
FROM metric_buckets
WHERE interval = %(level)s::text
    AND time_bucket >= %(first)s::timestamptz AND time_bucket < %(end)s::timestamptz
UNION ALL
SELECT
    2,
    string_agg(timestamptz_send(at), ''::bytea),
    NULL,
    string_agg(int8send(late_count), ''::bytea),
    NULL
FROM (
    SELECT bucket_start(%(level)s::text, minute) AS at, sum(sum)::bigint AS late_count
    FROM rollup_deltas
    WHERE metric_id = 'register' AND kind = 'register'
        AND minute >= %(first)s::timestamptz AND minute < %(end)s::timestamptz
    GROUP BY at
) AS pending
ORDER BY place
""")
_DAYS = """
SELECT day, coalesce(sum(revision), 0)::bigint, coalesce(sum(batches), 0)::bigint
FROM (
    SELECT day, revision, NULL::bigint AS batches FROM rollup_days
    UNION ALL
    SELECT (hour AT TIME ZONE 'UTC')::date, NULL, count(*) FROM pending_batches GROUP BY 1
) AS versions
WHERE day >= %(first)s::date AND day <= %(last)s::date
GROUP BY day ORDER BY day
"""


class Day(NamedTuple):
    """The version of a UTC day: its revision, and how many batches are pending."""

    day: date
    revision: int
    pending_batches: int


class Register(NamedTuple):
    """What is known of buckets, each array by position.

    Attributes:
        revision: how often each was changed; 0 of one that was never merged.
        state: see `STATES`; -1 where nothing has ever landed.
        is_pending: whether something has landed since the last merge.
        late_count: how many of its events, whatever their type, were late; merged or not.
    """

    revision: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]
    is_pending: npt.NDArray[np.bool_]
    late_count: npt.NDArray[np.int64]


STATES = ("open", "settling", "final", "restated")
"""States of a bucket."""


async def ask_gaps(connection: Connection, buckets: Buckets, part: Part) -> Cursor:
    """Ask for the hours in which events landed without this version; `gaps_of` reads the answer."""
    begin, until = buckets.edges[part.begin], buckets.edges[part.until]
    values = {"metric_id": part.served.metric_id, **_span(begin, until)}
    return await connection.cursor(binary=True).execute(_GAPS, values)


async def gaps_of(asked: Cursor) -> list[int]:
    """Hours, in µs, in which events landed without a version."""
    return [micros(hour) for [hour] in await asked.fetchall()]


def no_register(size: int) -> Register:
    """That of buckets in which nothing has ever landed."""
    return Register(
        np.zeros(size, np.int64), np.full(size, -1), np.zeros(size, np.bool_), np.zeros(size, np.int64)
    )


async def ask_register(connection: Connection, buckets: Buckets) -> Cursor | None:
    """Ask what is known of these buckets; `register_of` reads the answer. None: there are none."""
    if not len(buckets):
        return None
    values = {"level": buckets.level, **_span(buckets.edges[0], buckets.edges[-1])}
    return await connection.cursor(binary=True).execute(_REGISTER, values)


async def register_of(asked: Cursor | None, buckets: Buckets, over: int) -> Register:
    """State and revision of each bucket; `over` is how many of them are over.

    One that is made of several has the sums of their revisions and late events, and the state of the least
    settled of them.
    """
    found = no_register(len(buckets))
    if asked is None:
        return found
    [_, *settled], [_, *pending] = await asked.fetchall()
    for times, _, late, _ in (settled, pending):
        if times is not None:
            np.add.at(found.late_count, positions(buckets, times_of(times)), _numbers(late))
    if settled[0] is not None:
        place = positions(buckets, times_of(settled[0]))
        np.add.at(found.revision, place, _numbers(settled[1]))
        codes = np.array([STATES.index(name) for name in settled[3].split(",")])
        # An open part makes a bucket open; of those that are over, a restated one makes it restated.
        order = np.array([3, 2, 0, 1])  # of open, settling, final, restated
        worst = np.full(len(buckets), -1)
        np.maximum.at(worst, place, order[codes])
        found.state[:] = np.where(worst < 0, -1, np.argsort(order)[worst])
    if pending[0] is not None:
        found.is_pending[positions(buckets, times_of(pending[0]))] = True
        found.state[found.is_pending & (found.state == -1)] = STATES.index("open")
        found.state[found.is_pending & (found.state == STATES.index("final"))] = STATES.index("restated")
    if buckets.is_composed:
        found.state[over:] = np.where(found.state[over:] == -1, -1, STATES.index("open"))
    return found


async def read_days(cursor: Cursor, first: date, last: date) -> list[Day]:
    """The versions of the UTC days that were read."""
    rows = await (await cursor.execute(_DAYS, {"first": first, "last": last})).fetchall()
    return [Day(*row) for row in rows]


def _numbers(packed: bytes) -> npt.NDArray[np.int64]:
    return np.frombuffer(packed, ">i8").astype(np.int64)


def _span(begin: Any, until: Any) -> dict[str, datetime]:
    return {"first": moment(begin), "end": moment(until)}
