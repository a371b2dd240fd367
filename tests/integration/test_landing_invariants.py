"""What landing does when Postgres doesn't do what it should: nothing of the batch stays."""

import threading
from datetime import timedelta

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from analytics_pipeline.errors import EnvironmentFault, InvariantBroken
from analytics_pipeline.ingest import watchdog
from analytics_pipeline.storage import backends
from analytics_pipeline.storage.landing import Lander
from tests.integration.landing_rig import (
    check_books,
    claim,
    event,
    execute,
    land,
    meddle,
    message,
    rows,
    value,
)
from tests.waiting import wait_for

_SENT = [message(0, event(0)), message(1, b"broken"), message(2, event(2))]


def check_that_nothing_stayed(database: str) -> None:
    for table in ("events", "dead_letter_events", "rollup_deltas", "ingest_batches"):
        assert rows(database, f"SELECT FROM {table}") == [], table
    assert value(database, "SELECT next_offset FROM ingest_offsets") == 0


@pytest.mark.parametrize("table", ["dead_letter_events", "rollup_deltas", "ingest_batches"])
@pytest.mark.parametrize("state", ["22023", "23505"])
def test_a_refusal_beside_the_events_breaks_the_invariant(
    database: str, lander: Lander, table: str, state: str
) -> None:
    """It is no fault of an event: no dead letter is made of it."""
    owner = claim(database)
    meddle(database, table, f"RAISE 'no' USING ERRCODE = '{state}';")
    with pytest.raises(InvariantBroken, match=state):
        land(lander, owner, _SENT)
    check_that_nothing_stayed(database)
    execute(database, f"DROP TRIGGER meddle ON {table}")
    land(lander, owner, _SENT)
    check_books(database)


@pytest.mark.slow
@pytest.mark.parametrize("failures", [4, 5])
def test_a_serialization_failure_is_tried_again_but_not_for_ever(
    database: str, lander: Lander, failures: int
) -> None:
    owner = claim(database)
    meddling = f"IF nextval('tries') <= {failures} THEN RAISE 'no' USING ERRCODE = '40001'; END IF;"
    meddle(database, "ingest_batches", meddling)
    if failures == 5:
        with pytest.raises(EnvironmentFault, match="40001"):
            land(lander, owner, _SENT)
        check_that_nothing_stayed(database)
    else:
        assert land(lander, owner, _SENT)[0].lines[0].stored == 2
        check_books(database)
    assert value(database, "SELECT last_value FROM tries") == 5


def test_a_copy_that_stores_fewer_rows_than_were_sent_breaks_the_invariant(
    database: str, lander: Lander
) -> None:
    owner = claim(database)
    meddle(database, "events", "IF new.user_id = 'user-2' THEN RETURN NULL; END IF;")
    with pytest.raises(InvariantBroken, match="COPY reported 1 rows, 2 were sent"):
        land(lander, owner, _SENT)
    assert lander.connection.info.transaction_status is TransactionStatus.IDLE, "no lock is kept either"
    check_that_nothing_stayed(database)
    execute(database, "DROP TRIGGER meddle ON events")
    land(lander, owner, _SENT)
    check_books(database)


def test_a_landing_connection_waits_no_longer_than_its_watchdog(lander: Lander) -> None:
    """Each ends by itself before `STUCK_AGE`, unless it cannot."""
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        assert lander.connection.execute(f"SHOW {name}").fetchone() == ("4s",), name
    assert timedelta(seconds=4) < backends.STUCK_AGE


def test_the_watchdog_ends_a_stuck_copy(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "STUCK_AGE", timedelta(milliseconds=300))
    monkeypatch.setattr(watchdog, "_INTERVAL", 0.05)
    stuck = psycopg.connect(database, application_name="analytics-landing-gone")
    stuck.pgconn.exec_(b"BEGIN; COPY events (event_type) FROM STDIN")
    stop = threading.Event()
    watching = threading.Thread(target=watchdog.run, args=(database, stop))
    watching.start()
    try:
        there = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        wait_for(lambda: value(database, there, stuck.info.backend_pid) == 0)
    finally:
        stop.set()
        watching.join(10)
        stuck.close()
    assert not watching.is_alive()
