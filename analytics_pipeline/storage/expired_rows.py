"""Removing expired rows of tables that have no partitions: the ledger, dead letters, counts of posted events.

Belongs here: what may go without breaking a balance that `analytics ledger verify` proves, in small transactions
that touch no row which a landing writes. Does not belong here: partitions (`storage.retention`); what others forget
as they go (idempotency keys and repeats of posts, statistics of sources).

A line of the ledger goes together with its dead letters, and only
- from the beginning of its partition, so that each line still begins where the one before ended;
- never the last of its partition, which tells where it stands;
- when the partitions of all its events are gone, so that no event is left without a line;
- when none of its letters is open, was settled a short time ago, or points to a replay that is still in the ledger.
Posted events are compared as a whole with what was accepted: their lines are carried forward as one.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from analytics_pipeline.settings import Retention
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.verdicts import BEGINNING

_AT_ONCE = 500
_POSTED = "http"
_NO_TRANSACTION = BEGINNING - timedelta(days=1)
"""`began_at` of a line that was carried forward: it has no transaction, so no rows of tables are looked for."""

_ERASE = """
UPDATE dead_letter_events
SET key = NULL, value = NULL, headers = NULL, note = concat_ws('; ', note, 'its content has expired')
WHERE id = ANY(ARRAY(
    SELECT id FROM dead_letter_events
    WHERE settled_at < %(letters)s AND status <> 'open'
        AND (key IS NOT NULL OR value IS NOT NULL OR headers IS NOT NULL)
    ORDER BY settled_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
))
"""
_ERASABLE = """
SELECT count(*) FROM dead_letter_events
WHERE settled_at < %(letters)s AND status <> 'open'
    AND (key IS NOT NULL OR value IS NOT NULL OR headers IS NOT NULL)
"""
_OLDEST_RAW = """
SELECT least(raw_floor, (SELECT min(lower_bound) FROM time_partitions WHERE parent = 'events')) FROM retention_state
"""
_IS_BUSY = """
(batch.hours <> '{}' AND (SELECT max(touched.hour) FROM unnest(batch.hours) AS touched (hour)) >= %(oldest_raw)s)
OR EXISTS (SELECT FROM pending_batches AS pending WHERE pending.batch_id = batch.batch_id)
"""
_REPLAYS = f"""
SELECT batch.batch_id FROM ingest_batches AS batch
WHERE batch.source = '_replay' AND batch.committed_at < %(ledger)s AND NOT ({_IS_BUSY})
ORDER BY batch.batch_id LIMIT %(most)s
"""  # noqa: S608  (constants of this module)
# The letter outlives the line of its replay only until its own line goes: a letter must not name a line that is gone.
_RELEASE = """
UPDATE dead_letter_events
SET status = 'discarded', replay_batch_id = NULL,
    note = concat_ws('; ', note, 'replayed by batch ' || replay_batch_id || ', which has expired')
WHERE replay_batch_id = %(batch)s
"""
_FORGET_REPLAY = "DELETE FROM ingest_batches WHERE batch_id = %(batch)s AND source = '_replay'"
_SOURCES = """
SELECT DISTINCT source, partition FROM ingest_batches
WHERE committed_at < %(ledger)s AND source <> '_replay' ORDER BY source, partition
"""
_LINES = f"""
SELECT batch.batch_id, ({_IS_BUSY}) OR EXISTS (
    SELECT FROM dead_letter_events AS letter
    WHERE letter.batch_id = batch.batch_id AND letter.source = batch.source AND letter.partition = batch.partition
        AND (letter.status <> 'discarded' OR letter.settled_at >= %(letters)s)
) AS stays
FROM ingest_batches AS batch
WHERE batch.source = %(source)s AND batch.partition = %(partition)s AND batch.committed_at < %(ledger)s
    AND batch.batch_id > %(after)s AND batch.batch_id < (
        SELECT max(last.batch_id) FROM ingest_batches AS last
        WHERE last.source = %(source)s AND last.partition = %(partition)s
    )
ORDER BY batch.batch_id LIMIT %(most)s
"""  # noqa: S608  (constants of this module)
_FORGET_LETTERS = """
DELETE FROM dead_letter_events
WHERE batch_id = ANY(%(batches)s) AND source = %(source)s AND partition = %(partition)s
"""
_FORGET_LINES = """
DELETE FROM ingest_batches WHERE source = %(source)s AND partition = %(partition)s AND batch_id = ANY(%(batches)s)
"""
_CARRY_LINES = f"""
WITH gone AS ({_FORGET_LINES} RETURNING *)
INSERT INTO ingest_batches (
    batch_id, source, partition, read, stored, duplicate, dead, skipped, catalog_version, seconds, note,
    committed_at, began_at
)
SELECT max(batch_id), source, partition, sum(read), sum(stored), sum(duplicate), sum(dead), sum(skipped),
    max(catalog_version), sum(seconds), 'carried forward: older lines, added up', max(committed_at), %(no_transaction)s
FROM gone GROUP BY source, partition
"""  # noqa: S608  (constants of this module)
_COUNT_LETTERS = """
SELECT count(*) FROM dead_letter_events
WHERE batch_id = ANY(%(batches)s) AND source = %(source)s AND partition = %(partition)s
"""
_COUNT_REPLAYS = f"""
SELECT count(*) FROM ingest_batches AS batch
WHERE batch.source = '_replay' AND batch.committed_at < %(ledger)s AND NOT ({_IS_BUSY})
"""  # noqa: S608  (constants of this module)
# Days that are over: no API process counts there any more.
_ADD_UP_ACCEPTED = """
WITH gone AS (
    DELETE FROM http_accepted
    WHERE day < (%(day)s::timestamptz AT TIME ZONE 'UTC')::date AND day > %(beginning)s
    RETURNING accepted
)
INSERT INTO http_accepted AS known (process_id, day, accepted)
SELECT '00000000-0000-0000-0000-000000000000', %(beginning)s, sum(accepted) FROM gone HAVING count(*) > 0
ON CONFLICT (process_id, day) DO UPDATE SET accepted = known.accepted + excluded.accepted
"""


@dataclass
class ExpiredRows:
    """What went, or would go.

    Attributes:
        contents_erased: settled dead letters whose bytes were erased; their reason and fate stay.
        ledger_lines: lines of the ledger.
        dead_letters: letters that went with their lines.
        held: partitions of the ledger with a line that is old enough and has to stay, with all that follow it.
    """

    contents_erased: int = 0
    ledger_lines: int = 0
    dead_letters: int = 0
    held: list[str] = field(default_factory=list)


def remove_expired_rows(connection: Connection, settings: Retention, *, now: datetime) -> ExpiredRows:
    """Remove what has expired at `now`, a few hundred rows a transaction.

    Args:
        connection: in autocommit.
        settings: `dead_letters` and `ledger` say how long.
        now: the time, with zone.
    """
    values = _values(connection, settings, now)
    done = ExpiredRows()
    while erased := connection.execute(_ERASE, values).rowcount:
        done.contents_erased += erased
    while replays := connection.execute(_REPLAYS, values).fetchall():
        for (batch,) in replays:
            with connection.transaction():
                connection.execute(_RELEASE, {"batch": batch})
                done.ledger_lines += connection.execute(_FORGET_REPLAY, {"batch": batch}).rowcount
    for source, partition in connection.execute(_SOURCES, values).fetchall():
        _remove_lines(connection, {**values, "source": source, "partition": partition}, done)
    connection.execute(_ADD_UP_ACCEPTED, {"day": values["ledger"], "beginning": BEGINNING.date()})
    return done


def preview_expired_rows(connection: Connection, settings: Retention, *, now: datetime) -> ExpiredRows:
    """What `remove_expired_rows` would do; nothing is changed.

    A line whose letters are released by a replay that expires in the same run is told with `held`.
    """
    values = _values(connection, settings, now)
    found = ExpiredRows()
    found.contents_erased = connection.execute(_ERASABLE, values).fetchall()[0][0]
    found.ledger_lines = connection.execute(_COUNT_REPLAYS, values).fetchall()[0][0]
    for source, partition in connection.execute(_SOURCES, values).fetchall():
        here = {**values, "source": source, "partition": partition}
        while (going := _lines(connection, here, found)) and here["after"] < going[-1]:
            here["after"] = going[-1]
            found.ledger_lines += len(going)
            found.dead_letters += connection.execute(_COUNT_LETTERS, {**here, "batches": going}).fetchall()[
                0
            ][0]
    return found


def _values(connection: Connection, settings: Retention, now: datetime) -> dict[str, Any]:
    return {
        "letters": now - settings.dead_letters,
        "ledger": now - settings.ledger,
        "oldest_raw": connection.execute(_OLDEST_RAW).fetchall()[0][0],
        "no_transaction": _NO_TRANSACTION,
        "after": 0,
        "most": _AT_ONCE,
    }


def _remove_lines(connection: Connection, values: dict[str, Any], done: ExpiredRows) -> None:
    """From the beginning of one partition up to the first line that stays."""
    kept = int(values["source"] == _POSTED)  # the line that carries the others forward
    while len(going := _lines(connection, values, done)) > kept:
        here = {**values, "batches": going}
        with connection.transaction():
            done.dead_letters += connection.execute(_FORGET_LETTERS, here).rowcount
            connection.execute(_CARRY_LINES if kept else _FORGET_LINES, here)
        done.ledger_lines += len(going) - kept


def _lines(connection: Connection, values: dict[str, Any], done: ExpiredRows) -> list[int]:
    """The next lines that may go; notes the partition as held where one stays."""
    rows = connection.execute(_LINES, values).fetchall()
    going = [batch for batch, _ in takewhile(lambda row: not row[1], rows)]
    name = f"{values['source']}/{values['partition']}"
    if len(going) < len(rows) and name not in done.held:
        done.held.append(name)
    return going
