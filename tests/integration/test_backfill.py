"""`analytics backfill` against real Postgres: preview, repair, interruption, live work first, words and exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics_pipeline.errors import ConfigurationError, EnvironmentFault
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.settings import environment
from analytics_pipeline.storage import backfill, rollups
from analytics_pipeline.storage.backfill import PATIENCE, LiveFirst, plan
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.metric_versions import register
from analytics_pipeline.storage.recompute import RecomputeResult, recompute_hour
from analytics_pipeline.storage.restatements import restatements
from tests.commands import run_command
from tests.integration.ingest_process import write_config
from tests.integration.rollup_data import land, live
from tests.unit.rollups.events import batch
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
HOURS = [DAY + timedelta(hours=number) for number in (8, 9, 10)]
RANGE = ("--from", f"{HOURS[0]:%Y-%m-%dT%H:%MZ}", "--to", f"{HOURS[-1]:%Y-%m-%dT%H:59Z}")
EVERYTHING = (
    "SELECT interval, time_bucket, metric_id, dimensions::text, count, sum_exact FROM metric_aggregations"
    " ORDER BY 1, 2, 3, 4",
    "SELECT * FROM metric_states ORDER BY 1, 2, 3, 4, 5",
    "SELECT * FROM metric_buckets ORDER BY 1, 2",
    "SELECT hour, batch_id, minute, metric_id, dimensions::text, count FROM rollup_deltas ORDER BY 1, 2, 3, 4, 5",
    "SELECT * FROM rollup_days",
    "SELECT * FROM backfill_progress",
    "SELECT * FROM metric_restatements",
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(database: str, tmp_path: Path) -> Path:
    return write_config(tmp_path, database, None, [])


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards

    def call(*arguments: str) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, command(config, *arguments))

    return call


def command(config: Path, *arguments: str) -> list[str]:
    return [
        "analytics", "backfill", *arguments,
        "--config", str(config), "--state-folder", str(config.parent / "none"),
    ]  # fmt: skip


@pytest.fixture
def damaged(connection: Connection) -> list[tuple[object, ...]]:
    """60 events in each of three hours, a batch of them pending, and totals that count one too many; the truth."""
    for number, hour in enumerate(HOURS):
        land(connection, batch(60, seed=number, start=hour), number)
        rollups.merge_hour(connection, hour, run_id="run")
    land(connection, batch(10, seed=9, start=HOURS[1]), 9)
    truth = live(connection)
    connection.execute("UPDATE metric_aggregations SET count = count + 1 WHERE dimension_set = ''")
    return truth


def state(connection: Connection) -> list[list[tuple[object, ...]]]:
    return [connection.execute(query).fetchall() for query in EVERYTHING]


def progress(connection: Connection) -> list[datetime]:
    return [row[0] for row in connection.execute("SELECT hour FROM backfill_progress ORDER BY hour")]


@pytest.mark.slow
def test_a_dry_run_shows_old_new_and_difference_and_writes_nothing(connection, damaged, run):
    before = state(connection)
    code, out, err = run(*RANGE, "--dry-run")
    assert code == 0
    assert state(connection) == before
    [line] = [
        one.split() for one in out.splitlines() if one.split()[1:2] == ["events.count"] and "08:00" in one
    ]
    assert line == [f"{HOURS[0]:%Y-%m-%dT%H:%MZ}", "events.count", "61", "60", "-1"]
    assert "3 hours compared with 190 raw events" in out
    assert "nothing was written" in out
    assert "(3 of 3 hours)" in err


@pytest.mark.slow
def test_a_dry_run_for_programs_has_one_line_an_hour_at_every_interval(connection, damaged, run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal: a bar, which leaves stdout alone
    code, out, err = run(*RANGE, "--dry-run", "--json")
    assert code == 0
    assert "(3 of 3 hours)" not in err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [datetime.fromisoformat(line["hour"]) for line in lines] == HOURS
    assert [line["events"] for line in lines] == [60, 70, 60]
    for line in lines:
        assert line["written"] is False
        levels = {one["interval"] for one in line["differences"]}
        assert levels == {"1m", "5m", "15m", "1h"} | ({"1d"} if line is lines[-1] else set())
        [total] = [
            one for one in line["differences"]
            if (one["interval"], one["metric_name"]) == ("1h", "events.count") and one["dimensions"] == {}
        ]  # fmt: skip
        assert (total["old"], total["new"], total["difference"]) == (line["events"] + 1, line["events"], -1)


@pytest.mark.slow
def test_the_days_of_the_range_are_listed_as_they_will_be(connection, damaged, run):
    before = state(connection)
    code, out, _ = run(*RANGE, "--dry-run", "--interval", "1d")
    assert (code, state(connection)) == (0, before)
    [line] = [one.split() for one in out.splitlines() if one.split()[1:2] == ["events.count"]]
    assert line == [f"{DAY:%Y-%m-%d}", "events.count", "191", "190", "-1"]
    code, out, _ = run(*RANGE)
    assert (code, live(connection)) == (0, damaged)
    assert " at 1d\n" in out


@pytest.mark.slow
def test_a_backfill_mends_every_interval_and_the_next_finds_no_difference(connection, damaged, run):
    assert live(connection) != damaged
    code, out, _ = run(*RANGE)
    assert code == 0
    assert "3 hours recomputed from 190 raw events; differences: " in out
    assert live(connection) == damaged
    assert rollups.pending_hours(connection) == []
    assert progress(connection) == []
    code, out, _ = run(*RANGE)
    assert (code, out) == (0, "3 hours recomputed from 190 raw events; no difference\n")


@pytest.mark.slow
def test_only_the_metrics_asked_for_are_recomputed(connection, damaged, run):
    names = ("trading.orders_placed", "users.active")
    wrong = live(connection)
    register(connection, [BUILT_IN.by_name[name] for name in names])
    code, _, _ = run(*RANGE, "--metric", names[0], "--metric", names[1])
    assert code == 0
    expected = [right if right[0] in names else kept for right, kept in zip(damaged, wrong, strict=True)]
    assert live(connection) == expected


@pytest.mark.slow
def test_a_metric_that_answers_for_nothing_yet_can_only_be_previewed(connection, damaged, run):
    register(connection, [BUILT_IN.by_name["users.active"]])
    asked = ("--metric", "users.active", "--metric", "trading.total_volume")
    before = live(connection)
    code, out, err = run(*RANGE, *asked)
    assert (code, out) == (ConfigurationError.exit_code, "")
    assert "no ingest process has started with the present definition of trading.total_volume, so" in err
    assert run(*RANGE, *asked, "--dry-run")[0] == 0
    assert live(connection) == before


@pytest.mark.slow
def test_few_rows_are_listed_and_the_rest_counted(damaged, run):
    _, out, _ = run(*RANGE, "--dry-run", "--limit", "2", "--interval", "1m")
    assert sum("T08:" in line or "T09:" in line for line in out.splitlines()) == 2
    assert " more at 1m: --limit shows more" in out


def test_killed_midway_and_called_again_it_does_the_rest(connection, database, damaged, config, run):
    """The third hour is held, so the process stands there when it is killed."""
    program = [sys.executable, "-c", "import sys; from analytics_pipeline.cli import main; sys.exit(main())"]
    with connect(database, name="holder", autocommit=True) as holder:
        with rollups.hour_lock(holder, HOURS[2], wait=True):
            process = subprocess.Popen(
                [*program, *command(config, *RANGE)[1:]], cwd=ROOT,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                wait_for(lambda: progress(connection) == HOURS[:2] and waits(connection), timeout=60)
            finally:
                process.kill()
                process.wait(20)
        assert progress(connection) == HOURS[:2]
    code, out, err = run(*RANGE)
    assert code == 0
    assert err.startswith("2 hours were done by ")
    assert "1 hour recomputed from 60 raw events" in out
    assert live(connection) == damaged
    assert progress(connection) == []


@pytest.mark.slow
def test_interrupted_by_a_person_it_says_how_far_it_came(connection, damaged, run, monkeypatch):
    def stop(conninfo: str, hour: datetime, **named: Any) -> RecomputeResult:
        if hour == HOURS[1]:
            raise KeyboardInterrupt
        return recompute_hour(conninfo, hour, **named)

    monkeypatch.setattr(backfill, "recompute_hour", stop)
    code, _, err = run(*RANGE)
    assert code == 130
    assert err.endswith("stopped after 1 of 3 hours, which stay done: the same command goes on\n")
    assert progress(connection) == HOURS[:1]


def waits(connection: Connection) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    ).fetchone()
    return found is not None and found[0] > 0


@pytest.mark.slow
def test_an_hour_is_done_with_its_progress_or_not_at_all(connection, damaged, run):
    connection.execute(f"ALTER TABLE backfill_progress ADD CONSTRAINT stop CHECK (hour <> '{HOURS[1]}')")
    before = connection.execute(EVERYTHING[0]).fetchall()
    code, _, err = run(*RANGE)
    assert code == EnvironmentFault.exit_code
    assert "stopped after 1 of 3 hours, which stay done: the same command goes on" in err
    assert progress(connection) == HOURS[:1]
    after = connection.execute(EVERYTHING[0]).fetchall()
    changed = {row[1] for row in set(after) - set(before)}
    assert changed
    assert changed - {DAY} <= {HOURS[0] + timedelta(minutes=number) for number in range(60)}
    connection.execute("ALTER TABLE backfill_progress DROP CONSTRAINT stop")
    _, out, _ = run(*RANGE, "--restart")
    assert "3 hours recomputed" in out
    assert live(connection) == damaged


def test_only_a_backfill_of_the_same_metrics_leaves_out_what_is_done(connection):
    whole = plan(connection, HOURS)
    connection.execute(
        "INSERT INTO backfill_progress (metric_set, hour, run_id) VALUES (%s, %s, 'run')",
        (whole.metric_set, HOURS[1]),
    )
    again = plan(connection, HOURS)
    assert (again.hours, again.done) == ([HOURS[0], HOURS[2]], 1)
    assert plan(connection, HOURS, metric_ids=["other"]).hours == HOURS
    assert plan(connection, HOURS, restart=True).hours == HOURS


@pytest.mark.slow
def test_what_was_final_is_fed_as_restated_by_backfill(connection, damaged, run):
    connection.execute("UPDATE metric_buckets SET state = 'final'")
    run(*RANGE)
    fed = restatements(connection, metric_name="events.count", interval="1h")
    assert [(one.time_bucket, one.reason) for one in reversed(fed)] == [(hour, "backfill") for hour in HOURS]
    assert [(one.old_count, one.new_count) for one in reversed(fed)] == [(61, 60), (61, 70), (61, 60)]
    assert {one.run_id.partition("-")[0] for one in fed} == {"backfill"}


WRONG = [
    (
        ("--metric", "trading.total_volum"),
        "there is no metric 'trading.total_volum'; did you mean trading.total_volume?",
    ),
    (("--metric", "\x1b[31m"), r"no metric '\x1b[31m'; `analytics metrics list` shows those there are"),
    (("--metric", ""), "there is no metric ''; `analytics metrics list` shows those there are"),
    (("--metric", "users.active", "--metric", "Users.Active"), "no metric 'Users.Active'; did you mean users.active?"),
    (("--metric", "trading.total_volume,users.active"), "did you mean trading.total_volume?"),
    (("--metric", "_register"), "there is no metric '_register'"),
    (("--from", "yesterday"), "--from: 'yesterday' is no time and no age: give a time with its zone, like 2026-"),
    (("--from", ""), "--from: '' is no time and no age"),
    (("--from", "-1h"), "--from: '-1h' is no time and no age"),
    (("--from", "24"), "--from: '24' is no time and no age"),
    (("--from", "NaNd"), "--from: 'NaNd' is no time and no age"),
    (("--from", "2026-02-30T00:00Z"), "--from: '2026-02-30T00:00Z' is no time and no age"),
    (("--from", "2026-05-15T25:00Z"), "--from: '2026-05-15T25:00Z' is no time and no age"),
    (("--from", "2026-05-15T12:00+25:00"), "--from: '2026-05-15T12:00+25:00' is no time and no age"),
    (("--from", "10000-01-01T00:00Z"), "--from: '10000-01-01T00:00Z' is no time and no age"),
    (("--from", "2026-05-15T12:00Z\x1b[31m"), r"--from: '2026-05-15T12:00Z\x1b[31m' is no time and no age"),
    (("--from", "2026-05-15"), "--from: '2026-05-15' has no zone: give it one, like 2026-05-15T12:00Z"),
    (("--from", "2026-05-15T12:00"), "--from: '2026-05-15T12:00' has no zone"),
    (("--from", "0001-01-01T00:00+23:00"), "--from: '0001-01-01T00:00+23:00' is outside the calendar"),
    (("--from", "999999d"), "--from: '999999d' is outside the calendar"),
    (("--from", f"{'9' * 400}d"), "is outside the calendar"),
    (("--to", "noon"), "--to: 'noon' is no time and no age"),
    (("--to", "2026-05-15T12:00"), "--to: '2026-05-15T12:00' has no zone"),
    (("--to", "10000-01-01T00:00Z"), "--to: '10000-01-01T00:00Z' is no time and no age"),
    (("--to", "9999-12-31T23:59-23:00"), "--to: '9999-12-31T23:59-23:00' is outside the calendar"),
    (("--from", "1h", "--to", "2h"), "is not before --to"),
    (("--from", "2026-05-15T12:00Z", "--to", "2026-05-15T12:00Z"), "is not before --to 2026-05-15T12:00Z: swap them"),
    (("--from", "2026-05-15T12:00Z", "--to", "2026-05-15T13:00+02:00"), "is not before --to 2026-05-15T11:00Z"),
    (("--from", "2999-01-01T00:00Z"), "lies in the future"),
    (("--from", "0s"), "is now: nothing has happened since; write an earlier one, such as 3h"),
    (("--interval", "2h"), "--interval: '2h' is not one of 1m, 5m, 15m, 1h"),
    (("--interval", "1H"), "--interval: '1H' is not one of 1m, 5m, 15m, 1h"),
    (("--interval", ""), "--interval: '' is not one of 1m, 5m, 15m, 1h"),
    (("--interval", "2d"), "--interval: '2d' is not one of 1m, 5m, 15m, 1h, 1d"),
    (
        ("--from", "2001-01-01T00:00Z"),
        "are gone (retention), so nothing before can be recomputed: begin there",
    ),
]  # fmt: skip


@pytest.mark.slow
def test_bad_input_gets_one_sentence(run):
    for arguments, sentence in WRONG:
        code, out, err = run("--from", "2h", *arguments)
        assert (code, out) == (ConfigurationError.exit_code, ""), arguments
        assert sentence in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1


@pytest.mark.slow
def test_all_wrong_names_are_told_at_once_and_one_given_twice_is_done_once(connection, damaged, run):
    code, _, err = run(*RANGE, "--metric", "a", "--metric", "users.activ", "--metric", "users.active")
    assert (code, err.count("error: ")) == (ConfigurationError.exit_code, 2)
    once = run(*RANGE, "--dry-run", "--json", "--metric", "users.active")
    twice = run(*RANGE, "--dry-run", "--json", "--metric", "users.active", "--metric", "users.active")
    assert once[1] == twice[1]


@pytest.mark.slow
def test_a_range_before_the_raw_floor_is_refused_and_changes_nothing(connection, damaged, run):
    connection.execute("UPDATE retention_state SET raw_floor = %s", (HOURS[1],))
    before = state(connection)
    code, _, err = run(*RANGE)
    assert code == ConfigurationError.exit_code
    assert f"raw events from before {HOURS[1]:%Y-%m-%dT%H:%MZ} are gone" in err
    assert state(connection) == before


@pytest.mark.slow
def test_hours_whose_raw_events_go_while_it_runs_are_left_out(connection, damaged, run, monkeypatch):
    def rise(_: LiveFirst) -> None:
        connection.execute("UPDATE retention_state SET raw_floor = %s", (HOURS[1],))

    monkeypatch.setattr(LiveFirst, "__call__", rise)
    code, out, err = run(*RANGE)
    assert code == 0
    assert "2 hours recomputed from 130 raw events" in out
    assert f"left out 1 hours, {HOURS[0]:%Y-%m-%dT%H:%MZ} to {HOURS[0]:%Y-%m-%dT%H:%MZ}" in err
    assert progress(connection) == []


@pytest.mark.slow
def test_a_metric_answers_from_the_first_hour_on_that_retention_left(connection, database, damaged):
    """Of the second the raw events go too, but after it was done."""
    volume = BUILT_IN.by_name["trading.total_volume"]
    before = replace(volume, value="quantity")
    register(connection, [before])
    register(connection, [volume])
    connection.execute(
        "UPDATE metric_versions SET available_from = %s WHERE metric_id = %s",
        (HOURS[-1] + timedelta(hours=1), volume.metric_id),
    )
    planned = plan(connection, HOURS, metric_ids=[volume.metric_id])
    floors = [HOURS[1], HOURS[1], HOURS[2]]
    names: list[str] = []
    since: list[datetime] = []
    skipped: list[datetime] = []

    def rise() -> None:
        connection.execute("UPDATE retention_state SET raw_floor = %s", (floors.pop(0),))

    done = backfill.carry_out(
        connection,
        database,
        planned,
        run_id="run",
        before_hour=rise,
        switched=lambda found, first: (names.extend(found), since.append(first)),
        skipped=skipped.append,
    )
    assert [result.hour for result in done] == HOURS[1:]
    assert (names, since, skipped) == ([volume.name], HOURS[1:2], HOURS[:1])
    assert connection.execute(
        "SELECT available_from FROM metric_versions WHERE metric_id = %s", (volume.metric_id,)
    ).fetchone() == (HOURS[1],)


def test_it_waits_until_landing_has_caught_up(connection, database):
    now = datetime.now(UTC)
    connection.execute("INSERT INTO ingest_offsets VALUES ('t', 0, 0, 1, %s)", (now - timedelta(minutes=5),))
    said: list[str | None] = []
    pauses: list[float] = []

    def catch_up(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            connection.execute("UPDATE ingest_offsets SET caught_up_at = now()")

    LiveFirst(connection, said.append, catch_up)()
    assert (said, pauses) == ([], [])  # nobody lands, so nobody is disturbed
    with connect(database, name="landing-test"):
        LiveFirst(connection, said.append, catch_up)()
    assert len(pauses) == 3
    assert [str(reason).partition(" is ")[0] for reason in said] == ["landing", "None"]


def test_it_waits_for_merges_but_not_for_ever(connection, database):
    connection.execute(
        "INSERT INTO ingest_batches"
        " (batch_id, source, partition, committed_at, read, stored, duplicate, dead, skipped, catalog_version)"
        " VALUES (1, 'http', 0, now() - interval '1 hour', 1, 1, 0, 0, 0, '')"
    )
    connection.execute("INSERT INTO pending_batches VALUES (%s, 1)", (HOURS[0],))
    passed = [0.0]
    said: list[str | None] = []

    def pause(seconds: float) -> None:
        passed[0] += seconds

    with connect(database, name="landing-test"):
        LiveFirst(connection, said.append, pause, lambda: passed[0])()
    assert passed[0] == PATIENCE
    assert len(said) == 2
    assert "wait to be merged" in str(said[0])
    assert said[1] is None
