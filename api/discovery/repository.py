"""Values that dimensions have had, from the register of series.

Belongs here: the statement. Does not belong here: what a key sees of a metric (`visible`).

The register has a row for each series and UTC day, at most as many as the metric's budget, in an index that holds all
of it; no event and no rollup is read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.sql import SQL, Composable, Placeholder

from analytics_pipeline.events.reach import Reach
from api.database import Database
from api.discovery.schemas import Values
from api.reach_sql import series_in

_OF_SET = SQL("""
    SELECT found.value
    FROM unnest(%(days)s::date []) AS looked (day)
    CROSS JOIN unnest({ids}::text []) AS metric (id)
    CROSS JOIN LATERAL (
        SELECT DISTINCT series.dimensions -> %(name)s::text AS value
        FROM metric_series AS series
        WHERE series.day = looked.day AND series.metric_id = metric.id AND series.dimension_set = {set}
            {conditions}
        ORDER BY 1
        LIMIT %(limit)s
    ) AS found
""")
_VALUES = SQL("""
SELECT every.value::text AS shown
FROM (SELECT DISTINCT value FROM ({sets}) AS of_sets) AS every
ORDER BY every.value
LIMIT %(limit)s
""")
_BEHIND = SQL("AND dimensions -> %(name)s::text > %(after)s::jsonb")
_PREFIX = SQL("AND dimensions ->> %(name)s::text ^@ %(prefix)s::text")


async def read_dimension_values(
    database: Database, name: str, asked: Values, sets: Mapping[str, Sequence[str]], reach: Reach
) -> list[str]:
    """JSON texts of values in the order of jsonb, one more than asked for if there are more.

    Args:
        database: read from.
        name: of the dimension.
        asked: which page.
        sets: ids of metrics by the dimension set that tells the values.
        reach: only series that are in it.
    """
    parameters: dict[str, Any] = {
        "days": asked.days,
        "name": name,
        "limit": asked.limit + 1,
        "after": asked.after,
        "prefix": asked.prefix,
    }
    arms = []
    for position, (dimension_set, ids) in enumerate(sets.items()):
        conditions, values = series_in(reach, dimension_set)
        own: list[Composable] = [SQL("AND ") + one for one in conditions]
        own += [_BEHIND] if asked.after is not None else []
        own += [_PREFIX] if asked.prefix is not None else []
        arms.append(
            _OF_SET.format(
                ids=Placeholder(f"ids_{position}"),
                set=Placeholder(f"set_{position}"),
                conditions=SQL(" ").join(own),
            )
        )
        parameters |= {f"ids_{position}": list(ids), f"set_{position}": dimension_set, **values}
    statement = _VALUES.format(sets=SQL(" UNION ALL ").join(arms))
    async with database.read("dimension_values") as connection, connection.cursor(binary=True) as cursor:
        await cursor.execute(statement, parameters)
        return [text for [text] in await cursor.fetchall()]
