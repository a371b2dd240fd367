"""The table of accepted events, and the check that nothing else reaches the database.

Belongs here: the Arrow schema and the value rules of a whole batch. Does not belong here: judging one message.
"""

import pandera.pyarrow as pandera
import pyarrow as pa

from analytics_pipeline.errors import InvariantBroken
from analytics_pipeline.events.limits import MAX_TEXT

EVENTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("session_id", pa.string()),
        pa.field("properties", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("is_late", pa.bool_(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_partition", pa.int32(), nullable=False),
        pa.field("source_offset", pa.int64(), nullable=False),
        pa.field("definition_version", pa.int32()),
    ]
)
"""One row per accepted event; `properties` is the text of a JSON object with unique keys, `{}` when absent."""

_TEXT = pandera.Check.str_length(max_value=MAX_TEXT)
_VALUES = pandera.DataFrameSchema(
    {
        "event_type": pandera.Column(str, pandera.Check.str_length(1, MAX_TEXT)),
        "user_id": pandera.Column(str, _TEXT, nullable=True),
        "session_id": pandera.Column(str, _TEXT, nullable=True),
        "properties": pandera.Column(str, pandera.Check.str_startswith("{")),
        "source": pandera.Column(str, pandera.Check.str_length(min_value=1)),
        "source_partition": pandera.Column(pa.int32(), pandera.Check.ge(0)),
        "source_offset": pandera.Column(pa.int64(), pandera.Check.ge(0)),
        "definition_version": pandera.Column(pa.int32(), pandera.Check.ge(1), nullable=True),
    }
)


def check_events(table: pa.Table) -> pa.Table:
    """The same rows, enforced: first the Arrow schema, then the values.

    pandera alone lets wrong types, missing and extra columns pass in some modes, so types are not left to it.

    Args:
        table: columns of `EVENTS_SCHEMA`, in this order.

    Raises:
        InvariantBroken: decode let something through that it must not.
    """
    if table.schema.names != EVENTS_SCHEMA.names:
        raise InvariantBroken(f"the columns of the batch are {table.schema.names}")
    try:
        enforced = table.cast(EVENTS_SCHEMA, safe=True)
        enforced.validate()
    except (pa.ArrowInvalid, ValueError) as error:
        raise InvariantBroken(f"the batch does not have the types of the events table: {error}") from error
    nulls = [f.name for f in EVENTS_SCHEMA if not f.nullable and enforced[f.name].null_count]
    if nulls:
        raise InvariantBroken(f"columns of the batch hold nulls: {', '.join(nulls)}")
    try:
        return _VALUES.validate(enforced)
    except pandera.errors.SchemaError as error:
        raise InvariantBroken(f"the batch breaks a rule of its values: {error.check}") from error
