"""What the landing tests share: making messages, landing them, and looking at the tables."""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from analytics_pipeline.events.decode import Decoded, decode_batches
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import Message, PlainMessage, RawBatch
from analytics_pipeline.storage import offsets
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.offsets import Claim, Span

LIMITS = Limits(raw_retention=timedelta(days=2))
SOURCE = "order.events"


def event(number: int = 0, **fields: Any) -> dict[str, Any]:
    at = datetime.now(UTC) - timedelta(seconds=1) + timedelta(microseconds=number)
    return {
        "event_type": "order.placed",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
        "user_id": f"user-{number}",
        "properties": {"order_id": f"o-{number}", "symbol": "BTCUSDT", "price": 10.5, "quantity": 2},
        "timestamp": at.isoformat(),
        **fields,
    }


def message(offset: int, content: Any, **parts: Any) -> PlainMessage:
    raw = content if isinstance(content, bytes | None) else json.dumps(content).encode()
    return PlainMessage(raw, offset, int(datetime.now(UTC).timestamp() * 1000), **parts)


def decode(batches: Sequence[RawBatch], limits: Limits = LIMITS) -> Decoded:
    return decode_batches(batches, now=datetime.now(UTC), limits=limits)


def decode_inbox(messages: Sequence[Message]) -> Decoded:
    return decode([RawBatch("http", 0, messages)])


def span(claim: Claim, messages: Sequence[Message], source: str = SOURCE, partition: int = 0) -> Span:
    return Span(source, partition, claim.next_offset, messages[-1].offset() + 1, len(messages), claim.epoch)


def claim(conninfo: str, partition: tuple[str, int] = (SOURCE, 0), start: int = 0) -> Claim:
    with connection(conninfo, name="landing-test") as opened:
        return offsets.claim(opened, conninfo, partition, start)


def land(lander: Lander, owner: Claim, messages: Sequence[Message], **where: Any) -> Any:
    """Land messages of one partition; the next batch starts where `Claim` of the result says."""
    source, partition = where.get("source", SOURCE), where.get("partition", 0)
    batch = RawBatch(source, partition, messages)
    landed = lander.land([span(owner, messages, source, partition)], decode([batch]))
    return landed, Claim(messages[-1].offset() + 1, owner.epoch)


def rows(conninfo: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as opened:
        return opened.execute(statement, values or None).fetchall()


def value(conninfo: str, statement: str, *values: Any) -> Any:
    return rows(conninfo, statement, *values)[0][0]


def execute(conninfo: str, statement: str, *values: Any) -> None:
    with psycopg.connect(conninfo, autocommit=True) as opened:
        opened.execute(statement, values or None)


def check_books(conninfo: str) -> None:
    """What must hold at every moment, whatever happened before."""
    gaps = rows(
        conninfo,
        """
        SELECT * FROM (
            SELECT source, partition, first_offset, lag(next_offset) OVER (
                PARTITION BY source, partition ORDER BY batch_id
            ) AS expected FROM ingest_batches WHERE first_offset IS NOT NULL
        ) AS chained WHERE first_offset <> expected
        """,
    )
    assert gaps == [], "the ledger is not contiguous"
    ends = rows(
        conninfo,
        """
        SELECT source, partition, next_offset, (
            SELECT next_offset FROM ingest_batches AS batch
            WHERE batch.source = row.source AND batch.partition = row.partition AND next_offset IS NOT NULL
            ORDER BY batch_id DESC LIMIT 1
        ) FROM ingest_offsets AS row
        """,
    )
    assert all(last in (None, at) for _, _, at, last in ends), f"offsets and ledger disagree: {ends}"
    stored, dead, read, duplicate = rows(
        conninfo, "SELECT sum(stored), sum(dead), sum(read), sum(duplicate) FROM ingest_batches"
    )[0]
    assert (stored or 0) == value(conninfo, "SELECT count(*) FROM events")
    assert (dead or 0) == value(conninfo, "SELECT count(*) FROM dead_letter_events")
    assert (read or 0) == (stored or 0) + (dead or 0) + (duplicate or 0)
    assert (stored or 0) == value(
        conninfo,
        """
        SELECT coalesce((SELECT sum(count) FROM rollup_deltas WHERE kind = 'register'), 0)
            + coalesce((SELECT sum(event_count) FROM metric_buckets WHERE interval = '1d'), 0)
        """,
    ), "metrics and events disagree"
    uncounted = rows(
        conninfo,
        """
        SELECT source, sum(read), sum(stored), sum(duplicate), sum(dead) FROM (
            SELECT source, read, stored, duplicate, dead FROM ingest_batches WHERE source <> '_replay'
            UNION ALL
            SELECT source, -read, -stored, -duplicate, -dead FROM source_statistics_live
        ) AS both_sides
        GROUP BY source
        HAVING sum(read) <> 0 OR sum(stored) <> 0 OR sum(duplicate) <> 0 OR sum(dead) <> 0
        """,
    )
    assert uncounted == [], f"source statistics and the ledger disagree: {uncounted}"
    unmatched = rows(
        conninfo,
        """
        SELECT * FROM (SELECT DISTINCT hour, batch_id FROM rollup_deltas) AS deltas
        FULL JOIN pending_batches AS pending USING (hour, batch_id)
        EXCEPT SELECT hour, batch_id FROM pending_batches
        """,
    )
    assert unmatched == [], "deltas without a pending batch"


def meddle(database: str, table: str, body: str) -> None:
    """Run PL/pgSQL before each row that is inserted into a table; `nextval('tries')` counts."""
    execute(
        database,
        f"""
        CREATE SEQUENCE tries;
        CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN new; END $$;
        CREATE TRIGGER meddle BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION meddle();
        """,
    )
