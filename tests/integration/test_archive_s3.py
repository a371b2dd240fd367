"""The archive in a bucket: written, proved and read again over S3's own protocol, or refused in one clear sentence."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import Retention
from analytics_pipeline.storage import archive as archiving
from analytics_pipeline.storage import retention, rollups
from analytics_pipeline.storage.archive import Archive
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.removal import Outcome
from tests.integration import s3_server
from tests.integration.databases import database_copy, fresh_database
from tests.integration.rollup_data import land
from tests.integration.s3_server import BUCKET, S3Server
from tests.integration.test_archived_recompute import DAY, HOURS, NOW, damage, recomputed, state
from tests.unit.rollups.events import batch

URI = f"s3://{BUCKET}/b25/raw"
KEEP = Retention(raw_events="5d", archive_uri=URI)
PARTITION = f"events_p{DAY:%Y%m%d}"
KEY = f"b25/raw/events/date={DAY:%Y-%m-%d}/part-0.parquet"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server.running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def template(postgres: Postgres, template_database: str) -> Iterator[str]:
    """Name of a database with three hours of a day that goes, merged."""
    with database_copy(postgres, template_database, "to_archive") as conninfo:
        with connect(conninfo, name="test", autocommit=True) as connection:
            ensure_range(connection, DAY, NOW)
            for number, hour in enumerate(HOURS):
                land(connection, batch(200, seed=number, start=hour), number)
                rollups.merge_hour(connection, hour, run_id="live")
            retention.write_policies(connection, KEEP)
        yield str(conninfo_to_dict(conninfo)["dbname"])


@pytest.fixture
def database(postgres: Postgres, template: str) -> Iterator[str]:
    yield from fresh_database(postgres, template)


@pytest.fixture
def db(database: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A connection; this process has the credentials, and the bucket is empty."""
    for name, text in s3.variables.items():
        monkeypatch.setenv(name, text)
    for key in s3.found():
        s3.client().delete_object(Bucket=BUCKET, Key=key)
    with connect(database, name="test", autocommit=True) as connection:
        yield connection


def run(db: Connection, database: str, uri: str = URI) -> Outcome:
    outcomes = retention.remove_expired(db, now=NOW, run_id="r", archive=Archive(uri, database))
    [outcome] = [each for each in outcomes if each.partition == PARTITION]
    return outcome


def is_attached(db: Connection) -> bool:
    return db.execute(
        "SELECT count(*) FROM time_partitions WHERE partition = %s", (PARTITION,)
    ).fetchone() == (1,)


@pytest.mark.slow
def test_a_day_goes_to_the_bucket_and_is_recomputed_from_there(db, database, s3):
    truth = state(db)
    assert run(db, database).action == "dropped"
    assert not is_attached(db)
    assert s3.found(KEY) == [KEY]
    noted = "SELECT archive, archived_rows FROM retention_removals WHERE parent = 'events'"
    assert db.execute(noted).fetchall() == [(f"{URI}/events/date={DAY:%Y-%m-%d}", 600)]
    damage(db)
    assert [result.events for result in recomputed(db, database)] == [200, 200, 200]
    assert state(db) == truth


@pytest.mark.slow
def test_a_damaged_object_keeps_the_events_and_is_written_again(db, database, s3, monkeypatch):
    whole = Archive.write

    def damaged(self, partition):
        contents = whole(self, partition)
        content = s3.client().get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
        s3.client().put_object(Bucket=BUCKET, Key=KEY, Body=content[:-100])
        return contents

    with monkeypatch.context() as spoiled:
        spoiled.setattr(Archive, "write", damaged)
        skipped = run(db, database)
    assert skipped.action == "skipped"
    assert skipped.reason.startswith(f"its archive {URI}/events/date={DAY:%Y-%m-%d} cannot be read: ")
    assert db.execute(f"SELECT count(*) FROM {PARTITION}").fetchone() == (600,)
    assert run(db, database).action == "dropped"


@pytest.mark.slow
def test_what_an_interrupted_run_left_does_not_stay(db, database, s3, monkeypatch):
    monkeypatch.setattr(archiving, "_PART_ROWS", 1)
    assert run(db, database).action == "dropped"
    client = s3.client()
    client.put_object(Bucket=BUCKET, Key=KEY.replace("part-0", "part-9"), Body=b"left over")
    with pytest.raises(EnvironmentFault, match="its archive"):
        recomputed(db, database)
    client.delete_object(Bucket=BUCKET, Key=KEY.replace("part-0", "part-9"))
    assert [result.differences for result in recomputed(db, database, HOURS[:1])] == [[]]


def test_objects_of_somebody_else_are_never_overwritten(db, database, s3):
    s3.client().put_object(Bucket=BUCKET, Key=KEY, Body=b"theirs")
    skipped = run(db, database)
    assert (skipped.action, "move them away" in skipped.reason) == ("skipped", True)
    assert s3.client().get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"theirs"


ADVICE = (
    "; see that this process has the right bucket, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION and, "
    "for a server other than AWS', AWS_ENDPOINT_URL"
)


def refused(db: Connection, database: str, uri: str = URI) -> str:
    """The reason; the partition is where it was, with all its events, and nothing was begun."""
    skipped = run(db, database, uri)
    assert skipped.action == "skipped"
    assert skipped.reason.endswith(ADVICE)
    assert "\n" not in skipped.reason
    assert is_attached(db)
    assert db.execute(
        "SELECT count(*) FROM events WHERE timestamp < %s", (DAY + timedelta(days=1),)
    ).fetchone() == (600,)
    assert db.execute("SELECT count(*) FROM retention_removals WHERE parent = 'events'").fetchone() == (0,)
    return skipped.reason.removesuffix(ADVICE)


def test_a_bucket_that_is_missing_is_named(db, database):
    reason = refused(db, database, "s3://nowhere/b25")
    assert reason == "its archive s3://nowhere/b25 cannot be reached: there is no bucket nowhere"


def test_a_bucket_that_has_gone_stops_a_recompute(db, database):
    assert run(db, database).action == "dropped"
    damage(db)
    before = state(db)
    db.execute("UPDATE retention_removals SET archive = replace(archive, 's3://archive', 's3://nowhere')")
    with pytest.raises(EnvironmentFault, match="cannot be read: there is no bucket nowhere; see that"):
        recomputed(db, database)
    assert state(db) == before


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_told_and_not_shown(db, database, s3, monkeypatch, variable):
    monkeypatch.setenv(variable, "wrong")
    reason = refused(db, database)
    assert "ACCESS_DENIED" in reason
    assert s3.variables["AWS_SECRET_ACCESS_KEY"] not in reason


def test_credentials_that_may_only_read_keep_the_events(db, database, s3, monkeypatch):
    """The archive is within reach, so the day is detached; it waits as a table until it can be written."""
    with monkeypatch.context() as reader:
        for name, text in s3.of_a_reader.items():
            reader.setenv(name, text)
        skipped = run(db, database)
    assert skipped.reason.startswith(f"its archive {URI}/events/date={DAY:%Y-%m-%d} cannot be written: ")
    assert "ACCESS_DENIED" in skipped.reason
    assert db.execute(f"SELECT count(*) FROM {PARTITION}").fetchone() == (600,)
    assert run(db, database).action == "dropped"


@pytest.mark.slow
def test_a_server_out_of_reach_is_told(db, database, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert "NETWORK_CONNECTION" in refused(db, database)


def test_everything_else_goes_although_the_archive_is_away(db, database):
    """Rollups and marts need no archive."""
    db.execute(
        "CREATE TABLE user_behavior_old PARTITION OF user_behavior FOR VALUES FROM ('2001-01-01Z') TO ('2001-02-01Z')"
    )
    outcomes = retention.remove_expired(db, now=NOW, run_id="r", archive=Archive("s3://nowhere", database))
    done = {each.partition: each.action for each in outcomes}
    assert (done[PARTITION], done["user_behavior_old"]) == ("skipped", "dropped")
