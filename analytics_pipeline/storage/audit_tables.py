"""The ledger's sums against the tables: are the events and dead letters there that it says it stored?

Belongs here: questions that read `events` and `dead_letter_events`; with `since` only what landed from then on.
Does not belong here: the ledger against itself (`storage.audit`).
"""

from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.verdicts import BEGINNING, MOST_PLACES, Check, Place, Values, judged, one_row

_EARLIEST = """
SELECT min(touched.hour) FROM ingest_batches AS batch, unnest(batch.hours) AS touched (hour)
WHERE batch.committed_at >= %(since)s
"""
# A batch has the time of its transaction in common with its events, and nothing else that is always there: a replay
# keeps the coordinates of its message. Events whose partition retention has removed, or is about to, may be there
# or not: their batches give a range.
_BOOKED = """
booked AS (
    SELECT batch.source, batch.batch_id, batch.began_at, batch.stored, batch.first_offset,
        CASE WHEN batch.source = '_replay' THEN 0 ELSE batch.partition END AS partition,
        batch.next_offset, coalesce(floor.raw_floor > ANY(batch.hours), false) AS is_expiring
    FROM ingest_batches AS batch, retention_state AS floor
    WHERE batch.committed_at >= %(since)s AND batch.began_at >= %(since)s
),
replays AS (SELECT began_at FROM booked WHERE source = '_replay')
"""
_STORED = f"""
WITH {_BOOKED},
days AS (
    SELECT source, date_trunc('day', began_at, 'UTC') AS day, sum(stored) AS most,
        sum(stored) FILTER (WHERE NOT is_expiring) AS least,
        sum(stored * timestamp_hash_extended(began_at AT TIME ZONE 'UTC', partition)::numeric) AS fingerprint
    FROM booked GROUP BY 1, 2
),
found AS (
    SELECT
        CASE WHEN created_at IN (SELECT began_at FROM replays) THEN '_replay' ELSE coalesce(source, '') END AS source,
        date_trunc('day', created_at, 'UTC') AS day, count(*) AS rows,
        sum(timestamp_hash_extended(
            created_at AT TIME ZONE 'UTC',
            CASE WHEN created_at IN (SELECT began_at FROM replays) THEN 0 ELSE coalesce(source_partition, 0) END
        )) AS fingerprint
    FROM events WHERE created_at >= %(since)s AND timestamp >= %(earliest)s GROUP BY 1, 2
)
SELECT source, day, coalesce(days.least, 0)::bigint, coalesce(days.most, 0)::bigint, coalesce(found.rows, 0),
    coalesce(days.fingerprint, 0) = coalesce(found.fingerprint, 0) AS is_batch_by_batch
FROM days FULL JOIN found USING (source, day)
ORDER BY day, source
"""  # noqa: S608  (constants of this module)
_STORED_PLACES = f"""
WITH {_BOOKED},
own AS (
    SELECT began_at, partition,
        array_agg(batch_id) AS batches, min(first_offset) AS first_offset, max(next_offset) AS next_offset,
        sum(stored) AS most, coalesce(sum(stored) FILTER (WHERE NOT is_expiring), 0) AS least
    FROM booked WHERE source = %(source)s AND began_at >= %(day)s AND began_at < %(day)s + interval '1 day'
    GROUP BY 1, 2
),
found AS (
    SELECT created_at AS began_at,
        CASE WHEN %(source)s = '_replay' THEN 0 ELSE coalesce(source_partition, 0) END AS partition,
        count(*) AS rows, min(source_offset) AS lowest, max(source_offset) AS highest
    FROM events
    WHERE created_at >= %(day)s AND created_at < %(day)s + interval '1 day' AND timestamp >= %(earliest)s
        AND (created_at IN (SELECT began_at FROM replays)) = (%(source)s = '_replay')
        AND (%(source)s = '_replay' OR coalesce(source, '') = %(source)s)
    GROUP BY 1, 2
)
SELECT partition, coalesce(own.first_offset, found.lowest), coalesce(own.next_offset, found.highest + 1),
    own.batches, coalesce(own.most, 0)::bigint, coalesce(found.rows, 0), count(*) OVER ()
FROM own FULL JOIN found USING (began_at, partition)
WHERE coalesce(found.rows, 0) NOT BETWEEN coalesce(own.least, 0) AND coalesce(own.most, 0)
ORDER BY began_at, partition LIMIT %(most)s
"""  # noqa: S608  (constants of this module)
_DEAD = """
WITH letters AS (
    SELECT batch_id, source, partition, count(*) AS rows FROM dead_letter_events
    WHERE created_at >= %(since)s GROUP BY 1, 2, 3
),
booked AS (
    SELECT batch_id, source, partition, first_offset, next_offset, dead FROM ingest_batches
    WHERE committed_at >= %(since)s AND began_at >= %(since)s AND source <> '_replay' AND dead > 0
)
SELECT source, partition, booked.first_offset, booked.next_offset, batch_id, coalesce(booked.dead, 0),
    coalesce(letters.rows, 0), count(*) OVER ()
FROM booked FULL JOIN letters USING (batch_id, source, partition)
WHERE coalesce(booked.dead, 0) <> coalesce(letters.rows, 0)
ORDER BY batch_id LIMIT %(most)s
"""
_DEAD_ROWS = """
SELECT
    (SELECT coalesce(sum(dead), 0)::bigint FROM ingest_batches
    WHERE committed_at >= %(since)s AND began_at >= %(since)s AND source <> '_replay'),
    (SELECT count(*) FROM dead_letter_events WHERE created_at >= %(since)s)
"""
# A letter is counted dead once, when it is read; a replay's line counts the letters that it settled.
_REPLAYED = """
WITH lines AS (
    SELECT batch_id, read FROM ingest_batches WHERE source = '_replay' AND committed_at >= %(since)s
),
letters AS (
    SELECT replay_batch_id AS batch_id, count(*) AS rows FROM dead_letter_events
    WHERE status = 'replayed' AND settled_at >= %(since)s - interval '1 minute' GROUP BY 1
)
SELECT batch_id, coalesce(lines.read, 0), coalesce(letters.rows, 0), count(*) OVER ()
FROM lines FULL JOIN letters USING (batch_id)
WHERE coalesce(lines.read, 0) <> coalesce(letters.rows, 0) AND (
    lines.batch_id IS NOT NULL
    OR NOT EXISTS (
        SELECT FROM ingest_batches AS known WHERE known.batch_id = letters.batch_id AND known.source = '_replay'
    )
)
ORDER BY batch_id LIMIT %(most)s
"""
_REPLAYED_ROWS = """
SELECT coalesce(sum(read), 0)::bigint, coalesce(sum(stored), 0)::bigint
FROM ingest_batches WHERE source = '_replay' AND committed_at >= %(since)s
"""


def of_tables(connection: Connection, values: Values) -> list[Check]:
    """All of them, in the transaction that is open; `values` are those of `storage.audit`."""
    return [_stored(connection, values), _dead(connection, values), _replayed(connection, values)]


def _stored(connection: Connection, values: Values) -> Check:
    """Sums per source and UTC day of landing; where they differ, batch by batch.

    A sum of hashes of each row's batch goes along, so that an event too many doesn't make up for a missing one.
    """
    is_all = values["since"] == BEGINNING
    earliest = None if is_all else one_row(connection, _EARLIEST, values)[0]
    values = {**values, "earliest": earliest or BEGINNING}
    days = connection.execute(_STORED, values).fetchall()
    found = Check(
        "stored_events_are_there",
        "events per source and day of landing = stored",
        {
            "days": len({day for _, day, *_ in days}),
            "stored": sum(most for _, _, _, most, _, _ in days),
            "removed_by_retention": sum(
                max(0, most - rows) for _, _, least, most, rows, _ in days if least < most
            ),
            "rows": sum(rows for _, _, _, _, rows, _ in days),
        },
    )
    for source, day, least, most, rows, is_batch_by_batch in days:
        is_exact = least == most
        is_gone = least == rows == 0
        if is_gone or (is_exact and rows == most and is_batch_by_batch):
            continue
        lines = connection.execute(_STORED_PLACES, {**values, "source": source, "day": day}).fetchall()
        found.broken += lines[0][-1] if lines else int(is_exact)
        if is_exact and not lines:
            found.places.append(Place(f"{most} stored by the ledger on {day:%Y-%m-%d}, {rows} rows", source))
        for partition, first, following, batches, booked, there, _ in lines:
            problem = f"{booked} stored by the ledger, {there} rows" + ("" if batches else ", of no batch")
            found.places.append(Place(problem, source, partition, first, following, tuple(batches or ())))
    found.places = found.places[:MOST_PLACES]
    return found


def _dead(connection: Connection, values: Values) -> Check:
    dead, rows = one_row(connection, _DEAD_ROWS, values)
    return judged(
        "dead_letters_are_there",
        "dead letters = dead",
        {"dead": dead, "rows": rows},
        connection.execute(_DEAD, values).fetchall(),
        lambda source, partition, first, following, batch, booked, there: Place(
            f"{booked} dead by the ledger, {there} dead letters",
            source,
            partition,
            first,
            following,
            (batch,),
        ),
    )


def _replayed(connection: Connection, values: Values) -> Check:
    read, stored = one_row(connection, _REPLAYED_ROWS, values)
    return judged(
        "replayed_letters_are_settled",
        "dead letters marked as replayed = read by replays",
        {"read": read, "stored": stored},
        connection.execute(_REPLAYED, values).fetchall(),
        lambda batch, read, marked: Place(
            f"{read} read by the replay, {marked} dead letters say that it settled them",
            "_replay", batches=(batch,),
        ),
    )  # fmt: skip
