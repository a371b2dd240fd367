"""`analytics metrics` on a real database: metrics of definitions, since when each is complete, earlier versions."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from analytics_pipeline import cli
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from analytics_pipeline.settings import environment
from analytics_pipeline.storage.connection import connect
from analytics_pipeline.storage.definitions import put_definition
from analytics_pipeline.storage.metric_versions import register
from tests.integration.ingest_process import write_config
from tests.integration.rollup_data import land
from tests.unit.rollups.events import batch
from tests.unit.rollups.test_declarations import metric

NAME = "trading.total_volume"
Run = Callable[..., str]


@pytest.fixture
def run(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    config = write_config(tmp_path, database, None, [])
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards

    def call(*arguments: str, err: str = "") -> str:
        common = ("--config", str(config), "--state-folder", str(tmp_path / "none"))
        monkeypatch.setattr("sys.argv", ["analytics", "metrics", *arguments, *common])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
        captured = capsys.readouterr()
        assert captured.err == err
        return captured.out

    return call


@pytest.mark.slow
def test_a_metric_tells_since_when_it_is_complete_and_what_answers_before(database: str, run: Run) -> None:
    assert "complete since not yet: no ingest of this release has started" in run("show", NAME)
    present = BUILT_IN.by_name[NAME]
    with connect(database, name="test", autocommit=True) as connection:
        register(connection, [replace(present, value="quantity")])
        land(connection, batch(60, seed=1, start=datetime.now(UTC) - timedelta(hours=2)), 1)
        register(connection, BUILT_IN.metrics)
        put_definition(connection, "my.signal", {"properties": {"strength": {"type": "number"}}})
        [[since]] = connection.execute(
            "SELECT available_from FROM metric_versions WHERE metric_id = %s", (present.metric_id,)
        )
    shown = run("show", NAME)
    assert f"complete since {since:%Y-%m-%d %H:%MZ}" in shown
    before = replace(present, value="quantity").metric_id
    assert f"before         {before}, from the beginning to {since:%Y-%m-%d %H:%MZ}" in shown
    listed = {one["name"]: one for one in json.loads(run("list", "--json"))}
    assert [one["metric_id"] for one in listed[NAME]["versions"]] == [before, present.metric_id]
    assert listed["custom.my.signal.strength"]["declared_at"] is None
    assert "a definition of custom events" in run("show", "custom.my.signal.strength")
    assert f"{since:%Y-%m-%d %H:%MZ}" in run("list")


def test_event_types_that_are_neither_built_in_nor_defined_are_told(
    database: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = metric(name="my.count", event_types=("order.filled", "my.signal", "order.expired"))
    monkeypatch.setattr("analytics_pipeline.rollups.automatic.BUILT_IN", Catalog((one,)))
    at = f"warning: {one.declared_at}: metric 'my.count': "
    expired = f"{at}order.expired is no built-in or defined type: it counts nothing until such events come\n"
    signal = f"{at}my.signal is no built-in or defined type: it counts nothing until such events come\n"
    run("show", "my.count", err=signal + expired)
    with connect(database, name="test", autocommit=True) as connection:
        put_definition(connection, "my.signal", {"properties": {"strength": {"type": "string"}}})
    run("show", "my.count", err=expired)
