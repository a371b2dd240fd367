"""`/api/v1/pipeline`: what stands in the tables is what is told, and what is broken by hand becomes a problem."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from analytics_pipeline.defs.environment import URL_VARIABLE, dagster_environment
from analytics_pipeline.ingest.consumer import Bounds
from analytics_pipeline.ingest.stops import limit_passed, made_anew, unreadable
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import project_file
from analytics_pipeline.storage import offsets
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.dagster_runs import read_orchestration
from analytics_pipeline.storage.dagster_schema import create_dagster_schema
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.standings import Stop
from analytics_pipeline.telemetry import INGEST_LAG
from tests.integration.api_support import Api, running, settings_for
from tests.integration.databases import database_copy
from tests.integration.landing_rig import SOURCE, claim, event, execute, land, message, value

PIPELINE, RUNS = "/api/v1/pipeline", "/api/v1/pipeline/runs"


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    """A partition of three batches with a dead letter each, whose owner is connected."""
    with (
        database_copy(postgres, template_database, "api_pipeline") as copied,
        connection(copied, name="landing-test") as owner_connection,
    ):
        lander = Lander(copied, name="landing-test")
        owner = claim(copied, (SOURCE, 0), 100)
        for number in range(3):
            first = owner.next_offset
            sent = [event(10 * number + n) for n in range(9)]
            messages = [message(first + n, one) for n, one in enumerate([*sent, b"broken"])]
            _, owner = land(lander, owner, messages)
        lander.close()
        owner_connection.execute("SELECT 1")
        yield copied


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    settings = settings_for(
        database,
        kafka={"topics": [SOURCE]},
        security={"rate_limit": {"enabled": False}},
    )
    with running(settings) as running_api:
        yield running_api


@pytest.fixture(autouse=True)
def good_day(database: str) -> None:
    """Fresh, owned, with room; few enough dead letters."""
    now = datetime.now(UTC)
    execute(database, "UPDATE ingest_offsets SET caught_up_at = %s, updated_at = %s", now, now)


def names(answer: Any) -> list[str]:
    return [problem["name"] for problem in answer["problems"]]


def test_the_numbers_are_those_of_the_tables(api: Api, database: str) -> None:
    INGEST_LAG.labels(SOURCE, "0").set(7)
    answer = api.get(PIPELINE)
    [one] = answer["landing"]["partitions"]
    assert (one["source"], one["partition"], one["next_offset"], one["lag"]) == (SOURCE, 0, 130, 7)
    assert (one["is_owner_connected"], one["is_retired"], one["stopped"]) == (True, False, None)
    assert one["state"] == "fresh"
    assert 0 <= one["behind_seconds"] < 5
    assert one["rate"] == answer["landing"]["rate"] == pytest.approx(30 / 60)
    assert answer["landing"]["connections"] >= 1
    assert answer["last_hour"] == {
        "read": 30, "dead": 3, "reasons": {"not_json": 3}, "gaps": 0, "unbalanced": 0,
    }  # fmt: skip
    assert answer["rollups"]["pending_deltas"] == value(database, "SELECT count(*) FROM rollup_deltas")
    assert answer["rollups"]["settled_at"] is None
    assert datetime.fromisoformat(answer["landing"]["landed_at"]) == value(
        database, "SELECT max(committed_at) FROM ingest_batches"
    )
    # 3 of 30 is above 5 %; the template has two days of room.
    assert set(names(answer)) <= {"dead_letters", "partitions_run_out"}
    assert "3 of 30 messages of the last hour (10.0 %)" in answer["problems"][-1]["text"]


def test_a_partition_that_lags_is_told_and_so_is_one_without_a_reader(api: Api, database: str) -> None:
    long_ago = datetime.now(UTC) - timedelta(seconds=400)
    execute(database, "UPDATE ingest_offsets SET caught_up_at = %s", long_ago)
    assert "partition_behind" in names(api.get(PIPELINE))
    execute(database, "UPDATE ingest_offsets SET owner = 'gone', updated_at = %s", long_ago)
    answer = api.get(PIPELINE)
    assert "partition_unowned" in names(answer)
    assert "partition_behind" not in names(answer)
    assert answer["status"] == "error"
    assert not answer["landing"]["partitions"][0]["is_owner_connected"]
    assert answer["landing"]["partitions"][0]["state"] == "unowned"
    execute(database, "UPDATE ingest_offsets SET owner = 'analytics-landing-test'")


def test_a_gap_in_the_ledger_is_told_within_the_hour(api: Api, database: str) -> None:
    batch = value(database, "SELECT batch_id FROM ingest_batches ORDER BY batch_id OFFSET 1 LIMIT 1")
    execute(database, "CREATE TABLE kept AS SELECT * FROM ingest_batches WHERE batch_id = %s", batch)
    execute(database, "DELETE FROM ingest_batches WHERE batch_id = %s", batch)
    answer = api.get(PIPELINE)
    assert answer["problems"][0]["name"] == "ledger_broken"
    assert (answer["last_hour"]["gaps"], answer["status"]) == (1, "error")
    # The batch before the gap may be older than the hour.
    older = "UPDATE ingest_batches SET committed_at = committed_at + %s WHERE batch_id < %s"
    execute(database, older, timedelta(hours=-2), batch)
    assert api.get(PIPELINE)["last_hour"]["gaps"] == 1
    execute(database, "INSERT INTO ingest_batches SELECT * FROM kept")
    answer = api.get(PIPELINE)
    assert (answer["last_hour"]["gaps"], "ledger_broken" in names(answer)) == (0, False)
    execute(database, older, timedelta(hours=2), batch)
    check = "CONSTRAINT read_is_accounted_for"
    execute(database, f"ALTER TABLE ingest_batches DROP {check}")
    execute(database, "UPDATE ingest_batches SET duplicate = duplicate + 1 WHERE batch_id = %s", batch)
    answer = api.get(PIPELINE)
    assert (answer["last_hour"]["gaps"], answer["last_hour"]["unbalanced"]) == (0, 1)
    execute(database, "UPDATE ingest_batches SET duplicate = duplicate - 1 WHERE batch_id = %s", batch)
    execute(database, f"ALTER TABLE ingest_batches ADD {check} CHECK (read = stored + duplicate + dead)")


def test_a_kafka_that_does_not_answer_the_owner_is_told_until_it_does(api: Api, database: str) -> None:
    since = datetime.now(UTC) - timedelta(seconds=60)
    with closing(Lander(database, name="landing-other")) as other:
        other.note_silence(since)
        assert "kafka_away" not in names(api.get(PIPELINE)), "another process, which owns nothing"
    with closing(Lander(database, name="landing-test")) as lander:
        lander.note_silence(since)
        assert api.get(PIPELINE)["problems"][0]["name"] == "kafka_away"
        lander.note_silence(None)
        assert "kafka_away" not in names(api.get(PIPELINE))


@pytest.mark.parametrize(
    "stop",
    [
        limit_passed((SOURCE, 0), 130, "the last 30 messages all became dead letters"),
        made_anew((SOURCE, 0), Bounds(0, 500)),
        unreadable((SOURCE, 0), 130, Bounds(200, 500)),
    ],
    ids=lambda stop: str(stop.reason),
)
def test_a_stopped_partition_is_told_at_once_with_the_command_until_somebody_decides(
    api: Api, database: str, stop: Stop
) -> None:
    """Fresh as it was a moment ago, and all the same."""
    with closing(Lander(database, name="landing-test")) as lander:
        owner = lander.claims([(SOURCE, 0)])[SOURCE, 0]
        lander.note_stops({(SOURCE, 0): (owner._replace(epoch=owner.epoch - 1), stop)})
        assert "partition_stopped" not in names(api.get(PIPELINE)), "somebody else owns it"
        lander.note_stops({(SOURCE, 0): (owner, stop)})
    answer = api.get(PIPELINE)
    [problem] = [one for one in answer["problems"] if one["name"] == "partition_stopped"]
    command = re.search(r"`(analytics offsets (?:seek|skip-to) [^`]+)`", stop.text)
    assert command is not None
    assert command[0] in problem["advice"]
    assert problem["reason"] == stop.reason
    [one] = answer["landing"]["partitions"]
    assert (one["state"], one["stop_reason"], one["stopped"]) == ("stopped", stop.reason, stop.text)
    with connection(database, name="landing-test") as opened:
        offsets.skip_to(opened, database, (SOURCE, 0), 130, note="looked at")
    assert "partition_stopped" not in names(api.get(PIPELINE))


@pytest.mark.slow
def test_runs_and_checks_are_those_of_dagster(
    api: Api, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert api.get(RUNS) == {"is_known": False, "daemon_at": None, "runs": [], "checks": []}

    @dg.asset
    def events() -> None:
        """Nothing."""

    @dg.asset_check(asset=events)
    def is_right() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset_check(asset=events)
    def is_nice() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)

    @dg.op
    def breaks() -> None:
        raise dg.Failure("broken")

    @dg.job
    def marts() -> None:
        breaks()

    schema = api.services.settings.dagster.schema_name
    with connection(database, name="test") as opened:
        create_dagster_schema(opened, schema)
    monkeypatch.setenv(URL_VARIABLE, dagster_environment(api.services.settings)[URL_VARIABLE])
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text(project_file("dagster.yaml").read_text())
    monkeypatch.setenv("B25_LOCAL_STACK__STATE_FOLDER", str(home / "state"))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        done = dg.materialize([events, is_right, is_nice], instance=instance)
        failed = marts.execute_in_process(instance=instance, raise_on_error=False)
    answer = api.get(RUNS)
    assert answer["is_known"]
    runs = [(one["run_id"], one["job"], one["status"]) for one in answer["runs"]]
    assert runs[0] == (failed.run_id, "marts", "FAILURE")
    assert runs[1][::2] == (done.run_id, "SUCCESS")
    assert answer["runs"][0]["started_at"] <= answer["runs"][0]["ended_at"]
    assert abs(datetime.fromisoformat(answer["runs"][0]["created_at"]) - datetime.now(UTC)) < timedelta(
        minutes=2
    )
    checks = [(one["asset"], one["name"], one["passed"], one["severity"]) for one in answer["checks"]]
    assert checks == [("events", "is_nice", False, "warning"), ("events", "is_right", True, "error")]
    assert {"run_failed", "check_failed"} <= set(names(api.get(PIPELINE)))
    # A Dagster of another version may have other tables: then nothing is known, and nothing breaks.
    execute(database, f'ALTER TABLE "{schema}".daemon_heartbeats RENAME TO other')
    assert not api.get(RUNS)["is_known"]
    assert "run_failed" not in names(api.get(PIPELINE))
    with connection(database, name="test", autocommit=True) as opened:
        assert read_orchestration(opened, "none", now=datetime.now(UTC)) is None


@pytest.mark.parametrize(
    "path",
    ["/api/v1/dead-letters", "/api/v1/dead-letters/groups", "/api/v1/ledger", "/api/v1/restatements", RUNS],
)
def test_who_polls_is_told_only_what_is_new(api: Api, path: str) -> None:
    first = api.request("GET", path)
    etag = first.headers["etag"]
    again = api.request("GET", path, headers={"If-None-Match": f'"other", {etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    other = api.request("GET", path, headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.json(), other.headers["etag"]) == (200, first.json(), etag)
    declared = api.get("/openapi.json")["paths"][path]["get"]
    assert "304" in declared["responses"]
    assert "If-None-Match" in {one["name"] for one in declared["parameters"]}


def test_a_letter_that_is_settled_changes_what_is_polled(api: Api, database: str) -> None:
    path = "/api/v1/dead-letters/groups"
    etag = api.request("GET", path).headers["etag"]
    execute(database, "UPDATE dead_letter_events SET status = 'discarded', settled_at = now() WHERE id = 1")
    answer = api.request("GET", path, headers={"If-None-Match": etag})
    execute(database, "UPDATE dead_letter_events SET status = 'open', settled_at = NULL WHERE id = 1")
    assert (answer.status_code, answer.json()["groups"][0]["open"]) == (200, 2)
