"""`--json`: standard output is one JSON document; whatever else a command has to say stands beside it."""

import json
from datetime import UTC, datetime

import pytest

from analytics_pipeline.settings import environment
from tests.commands import run_command
from tests.integration.api_support import event, land

READING = (
    "dead-letters groups", "dead-letters list", "definitions list", "doctor",
    "fate --id 00000000-0000-7000-8000-000000000000", "keys list", "ledger show", "ledger verify", "metrics list",
    "metrics show events.count", "migrate", "offsets show", "query events", "query metrics events.count", "sources",
    "status",
)  # fmt: skip


@pytest.mark.parametrize("words", READING)
def test_a_command_that_reads_prints_one_document(
    words: str, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards
    monkeypatch.delenv("B25_LOCAL_STACK__STATE_FOLDER")
    monkeypatch.setenv("B25_DATABASE__URL", database)
    land(database, [event("seen.once", datetime.now(UTC), "user")])
    code, out, err = run_command(monkeypatch, capsys, ["analytics", *words.split(), "--json"])
    assert "Traceback" not in err
    assert code in {0, 1, 3}, err
    json.loads(out)
