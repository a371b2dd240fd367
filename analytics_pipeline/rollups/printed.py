"""Properties as jsonb prints them, read into the fields of the catalog a column at a time.

Belongs here: a cheaper way to what `facts` finds in any text. It needs each key once, so landing, which reads what
producers wrote, cannot take it. DuckDB does it without the interpreter's lock, so in a thread beside the computing one.
Does not belong here: what counts as a text or a number (`facts`, which also reads the rows that are out of the
ordinary).
"""

import json

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups.catalog import NUMBER_FIELDS, TEXT_FIELDS
from analytics_pipeline.rollups.engine import engine
from analytics_pipeline.rollups.facts import declared_one

_TYPES = json.dumps(dict.fromkeys(TEXT_FIELDS, "VARCHAR") | dict.fromkeys(NUMBER_FIELDS, "DOUBLE"))
# A number that no float holds becomes infinite, as in `facts`.
_READ = f"""
    SELECT unnest(json_transform(coalesce(properties, '{{}}'), '{_TYPES}')) FROM printed
"""  # noqa: S608  (names of the catalog)
_ODD = f'"(?:(?:{"|".join(TEXT_FIELDS)})": [^"n]|(?:{"|".join(NUMBER_FIELDS)})": [^-0-9n])'
"""Found where a field has a value of another kind than text, or number; null apart. DuckDB would convert it."""


def with_fields(events: pa.Table) -> pa.Table:
    """The same events with a column (string, float64) of each text and number field of the catalog.

    Args:
        events: at least properties (JSON text, printed by jsonb; null for none).
    """
    texts = events.column("properties").combine_chunks()
    try:
        fields = _read(texts)
    except duckdb.Error:  # nested too deep for its parser, for example: read as landing does
        return events
    odd = pc.match_substring_regex(texts, _ODD).fill_null(fill_value=False)
    found = [declared_one(text) for text in texts.filter(odd).to_pylist()]
    for field, column in zip(fields.schema, fields.columns, strict=True):
        if found:
            values = pa.array([getattr(one, field.name) for one in found], field.type)
            column = pc.replace_with_mask(column.combine_chunks(), odd, values)
        events = events.append_column(field, column)
    return events


def _read(texts: pa.Array) -> pa.Table:
    db = engine()
    db.register("printed", pa.table({"properties": texts}))
    try:
        return db.sql(_READ).to_arrow_table()
    finally:
        db.unregister("printed")
