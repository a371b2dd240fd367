"""A partition that its dead-letter limit has stopped stays stopped, whoever owns it, until somebody decides."""

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.storage import dead_letters, offsets
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.landing import Lander
from tests.integration.ingest_process import ingest, produce, wait_until_landed, write_config
from tests.integration.landing_rig import SOURCE, check_books, claim, event, land, message, rows, value
from tests.waiting import wait_for


@pytest.mark.slow
def test_a_restart_does_not_let_it_go_on(
    database: str, kafka: str, topic: Callable[..., str], tmp_path: Path
) -> None:
    name = topic(partitions=1)
    config = write_config(tmp_path, database, kafka, [name], batch_size=50, dead_letter_consecutive=200)
    produce(kafka, name, [b"broken"] * 350)
    log = config.parent / "ingest.log"
    with ingest(config) as process:
        wait_until_landed(database, name, 200)
        wait_for(lambda: "partition stopped" in process.log, 60)
        assert process.stop() == 0
    stopped_at = value(database, "SELECT next_offset FROM ingest_offsets")
    assert stopped_at == 200
    assert f"analytics offsets skip-to {name} 0 200" in log.read_text()
    assert f"analytics dead-letters groups --source {name}" in log.read_text()
    log.write_text("")
    with ingest(config) as process:
        wait_for(lambda: "partition stopped" in process.log, 60)
        assert re.search(r"the last 200 messages all became dead letters", process.log)
        assert value(database, "SELECT count(*) FROM dead_letter_events") == 200
        with connection(database, name="offsets") as opened:
            offsets.skip_to(opened, database, (name, 0), 200, note="the producer is mended")
        wait_for(lambda: value(database, "SELECT next_offset FROM ingest_offsets") == 350, 60)
        assert process.stop() == 0
    decision = rows(
        database, "SELECT first_offset, read, skipped, note FROM ingest_batches WHERE note IS NOT NULL"
    )
    assert decision == [(None, 0, 0, "the producer is mended")]
    check_books(database)


@pytest.mark.parametrize("is_decided", [False, True])
def test_history_is_what_landed_since_the_last_decision(database: str, is_decided: bool) -> None:
    lander = Lander(database, name="landing-test")
    owner = claim(database)
    for first in range(0, 50, 10):
        _, owner = land(
            lander,
            owner,
            [message(at, b"bad" if first < 20 else event(at)) for at in range(first, first + 10)],
        )
    claim(database, (SOURCE, 1))
    if is_decided:
        with connection(database, name="offsets") as opened:
            owner = offsets.skip_to(opened, database, (SOURCE, 0), 50, note="go on")
        owner = claim(database)
        _, owner = land(lander, owner, [message(50, b"bad")])
    lander.close()
    with psycopg.connect(database) as opened:
        found = dead_letters.history(opened, (SOURCE, 0))
        assert found == ([(1, 1)] if is_decided else [(10, 10), (10, 10), (10, 0), (10, 0), (10, 0)])
        assert dead_letters.history(opened, (SOURCE, 1)) == []
    check_books(database)
