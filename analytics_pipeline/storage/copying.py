"""COPY of Arrow tables in Postgres' binary format, encoded before a byte is sent.

Belongs here: which Arrow column becomes which type, and counting what arrived.
Does not belong here: which table to fill when (`storage.landing`).
"""

from typing import Any

import psycopg
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from psycopg import sql

from analytics_pipeline.errors import InvariantBroken
from analytics_pipeline.failpoints import FailPoint, fail_at

Cursor = psycopg.Cursor[Any]


class Copier:
    """Fills `table` from Arrow tables of one schema."""

    def __init__(self, table: str, schema: pa.Schema, *, jsonb: frozenset[str] = frozenset()) -> None:
        self.schema = schema
        self._statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, schema.names))
        )
        self._builders = {
            column.name: StringEncoderBuilder.new_with_output(column, Jsonb())
            if column.name in jsonb
            else ArrowToPostgresBinaryEncoder.infer_encoder(column)
            for column in schema
        }

    def encode(self, rows: pa.Table) -> bytes:
        """The bytes of one COPY."""
        encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(self.schema, self._builders)
        parts = [encoder.write_header()]
        parts += map(encoder.write_batch, rows.combine_chunks().to_batches())
        parts.append(encoder.finish())
        return b"".join(parts)

    def copy(self, cursor: Cursor, rows: pa.Table) -> None:
        """Send all rows.

        Raises:
            psycopg.Error: Postgres refuses them.
            InvariantBroken: Postgres reports another number of rows.
        """
        if rows.num_rows:
            self.send(cursor, self.encode(rows), rows.num_rows)

    def send(self, cursor: Cursor, encoded: bytes, count: int) -> None:
        """Send bytes made by `encode`, of `count` rows."""
        parts, middle = memoryview(encoded), len(encoded) // 2
        with cursor.copy(self._statement) as copy:
            copy.write(parts[:middle])
            fail_at(FailPoint.MID_COPY)
            copy.write(parts[middle:])
        if cursor.rowcount != count:
            raise InvariantBroken(f"COPY reported {cursor.rowcount} rows, {count} were sent")
