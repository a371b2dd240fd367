"""`analytics query`: the numbers of the API, read from the database by the same code or from an API that runs."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics_pipeline import cli
from analytics_pipeline.cli.completion import definition_names, event_types, metric_names
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import environment
from analytics_pipeline.storage.api_keys import create_key, new_key
from analytics_pipeline.storage.connection import connect
from tests.commands import run_command
from tests.integration.api_process import Process, started
from tests.integration.api_support import event, iso, land, settle
from tests.integration.databases import database_copy
from tests.waiting import wait_for

Run = Callable[..., tuple[int, str, str]]
NOW = datetime.now(UTC).replace(microsecond=0)
START, END = NOW - timedelta(hours=2), NOW + timedelta(minutes=1)
RANGE = ("--from", iso(START), "--to", iso(END))
ASKED = {"start_time": iso(START), "end_time": iso(END)}


def order(minutes: int, kind: str, symbol: str, price: float) -> dict[str, Any]:
    at = NOW - timedelta(minutes=minutes)
    return event(
        f"order.{kind}",
        at,
        f"user-{minutes}",
        symbol=symbol,
        price=price,
        quantity=2,
        latency_ms=price / 10,
        pnl=1.5,
    )


@pytest.fixture(scope="module")
def stored(postgres: Postgres, template_database: str) -> Iterator[str]:
    """Half of it is settled, half pending."""
    with database_copy(postgres, template_database, "query_cli") as database:
        for settled in (True, False):
            first = 90 if settled else 20
            land(database, [
                order(first - number, kind, symbol, 100.25 + number)
                for number in range(15) for kind in ("placed", "filled") for symbol in ("BTCUSDT", "ETHUSDT")
            ])  # fmt: skip
            if settled:
                land(database, [event("seen.once", NOW - timedelta(days=1), "user")])
                settle(database)
        yield database


@pytest.fixture(scope="module")
def key(stored: str) -> str:
    with connect(stored, name="test") as connection:
        made = new_key("reader", ["read"], now=datetime.now(UTC))
        create_key(connection, made)
        connection.commit()
    return made.text


@pytest.fixture(scope="module")
def api(stored: str, key: str) -> Iterator[Process]:
    with started(stored, B25_SECURITY__API_KEY_ENABLED="true") as process:
        wait_for(lambda: process.ask("HEALTH", "/ready")[0] == 200, timeout=60, message="/ready")
        yield process


@pytest.fixture
def run(stored: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards
    monkeypatch.delenv("B25_LOCAL_STACK__STATE_FOLDER")
    monkeypatch.setenv("B25_DATABASE__URL", stored)

    def call(*arguments: object) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, ["analytics", "query", *map(str, arguments)])

    return call


QUESTIONS = [
    ("trading.total_volume", "--interval", "5m"),
    ("trading.total_volume", "--interval", "1m", "--group-by", "symbol"),
    (
        "trading.orders_placed",
        "trading.order_fill_rate",
        "--interval",
        "15m",
        "--filter",
        "symbol=BTCUSDT",
    ),
    (
        "trading.order_latency",
        "--interval",
        "5m",
        "--aggregation",
        "p95",
        "--zone",
        "Asia/Kolkata",
        "--fill",
        "null",
    ),
    (
        "trading.total_volume",
        "--interval",
        "15m",
        "--group-by",
        "symbol",
        "--top",
        "1",
        "--compare",
        "previous",
    ),
]


@pytest.mark.parametrize("arguments", QUESTIONS, ids=" ".join)
def test_numbers_are_those_of_the_api(run: Run, api: Process, key: str, arguments: tuple[str, ...]) -> None:
    code, direct, err = run("metrics", *arguments, *RANGE, "--json")
    assert (code, err) == (0, "")
    url = f"http://127.0.0.1:{api.ports['SERVER']}"
    code, remote, _ = run("metrics", *arguments, *RANGE, "--json", "--api", url, "--api-key", key)
    assert code == 0
    mine, theirs = json.loads(direct), json.loads(remote)
    assert mine.pop("cached") is False
    theirs.pop("cached")
    assert mine == theirs
    results = mine.get("results") or [mine["result"]]
    points = [point for one in results for point in one["data_points"]]
    assert sum(point["value"] is not None for point in points) > 2
    assert {bool(point.get("pending")) for point in points} >= {True}


def test_a_key_is_needed_where_the_api_asks_for_one(run: Run, api: Process) -> None:
    url = f"http://127.0.0.1:{api.ports['SERVER']}"
    code, _, err = run("metrics", "trading.total_volume", "--api", url)
    assert (code, "ANALYTICS_API_KEY or --api-key-file" in err) == (2, True)
    code, _, err = run("metrics", "trading.total_volume", "--api", f"http://127.0.0.1:{api.ports['METRICS']}")
    assert code in (2, 3)
    assert "Traceback" not in err


def test_every_format_has_every_number_and_marks_what_is_pending(run: Run) -> None:
    asked = ("metrics", "trading.total_volume", "--interval", "1m", "--group-by", "symbol", *RANGE)
    points = json.loads(run(*asked, "--json")[1])["result"]["data_points"]
    assert len(points) == 60
    written = list(csv.DictReader(io.StringIO(run(*asked, "--format", "csv")[1])))
    assert [(one["timestamp"], one["symbol"], float(one["value"]), one["pending"]) for one in written] == [
        (one["timestamp"], one["dimensions"]["symbol"], one["value"], str(bool(one.get("pending"))).lower())
        for one in points
    ]
    table = run(*asked)[1]
    assert table.splitlines()[0] == "trading.total_volume  sum per 1m"
    assert len(table.splitlines()) == 63
    assert table.count("pending *") == sum(bool(one.get("pending")) for one in points) > 20
    spark = run(*asked, "--format", "sparkline")[1]
    assert "trading.total_volume symbol=BTCUSDT (1m)" in spark
    assert "* the last bucket may still change" in spark


def test_names_are_completed_from_the_database(run: Run) -> None:
    code, _, _ = run("events", "--limit", "1")  # the settings of this process name the database
    assert code == 0
    assert event_types("seen.") == ["seen.once"]
    assert metric_names("events.count.seen") == ["events.count.seen.once"]
    assert definition_names("") == []


def test_wrong_questions_are_sentences_in_the_words_of_the_options(run: Run) -> None:
    for arguments, sentence in (
        (
            ("trading.total_volum",),
            "there is no metric 'trading.total_volum'; did you mean trading.total_volume?",
        ),
        (
            ("trading.total_volume", "--interval", "2m"),
            "--interval: must be one of 1m, 5m, 15m, 1h, 1d, auto",
        ),
        (("trading.total_volume", "--group-by", "colour"), "--group-by: "),
        (("trading.total_volume", "--filter", "colour=red"), "--filter: the dimensions are "),
        (("trading.total_volume", "--aggregation", "p101"), "--aggregation: "),
        (("trading.total_volume", "--zone", "Mars/Base"), "--zone: must be an IANA name"),
        (("trading.total_volume", "--from", "1h", "--to", "2h"), "--from: is after end_time"),
        (
            ("trading.total_volume", "--interval", "1m", "--from", "3650d"),
            "--interval: the range has more than",
        ),
    ):
        code, out, err = run("metrics", *arguments)
        assert (code, out) == (2, ""), arguments
        assert sentence in err
        assert len(err.splitlines()) == 1


def test_events_are_those_of_the_api(run: Run, api: Process, key: str) -> None:
    url = f"http://127.0.0.1:{api.ports['SERVER']}"
    remote = ("--api", url, "--api-key", key)
    asked = ("events", "--type", "order.filled", "--property", "price:gte:110", "--limit", "7", *RANGE)
    mine, theirs = (json.loads(run(*asked, "--json", *where)[1]) for where in ((), remote))
    assert mine == theirs
    assert mine["count"] == 7
    code, out, err = run(*asked, "--format", "csv", "--fields", "timestamp,properties.symbol")
    assert (code, len(out.splitlines())) == (0, 8)
    assert f"--cursor {mine['next_cursor']}" in err
    assert len(run(*asked)[1].splitlines()) == 8
    ids = [json.loads(line)["id"] for line in run(*asked, "--format", "ndjson")[1].splitlines()]
    assert ids == [one["id"] for one in mine["events"]]
    second = json.loads(run(*asked, "--json", "--cursor", mine["next_cursor"])[1])
    assert not {one["id"] for one in second["events"]} & set(ids)
    code, _, err = run("events", "--id", "nonsense")
    assert (code, err.startswith("error: --id: ")) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("--json",), ("--limit", "4"), ("--all", "--format", "ndjson"), ("--type", "order.filled")]
)
def test_events_are_listed_where_a_metric_is_declared_wrongly(stored: str, words: tuple[str, ...]) -> None:
    """A process in which the catalog cannot be imported, as with a wrong declaration in it."""
    program = (
        "import sys; sys.modules['analytics_pipeline.rollups.catalog'] = None\n"
        "from analytics_pipeline import cli; sys.exit(cli.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "query", "events", *words, *RANGE],
        env={**environment(), "B25_DATABASE__URL": stored},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "order.filled" in done.stdout


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_all_events_are_streamed(
    stored: str, api: Process, key: str, form: str, capfdbinary, monkeypatch
) -> None:
    monkeypatch.setenv("B25_DATABASE__URL", stored)
    seen = []
    for where in ((), ("--api", f"http://127.0.0.1:{api.ports['SERVER']}", "--api-key", key)):
        words = ["analytics", "query", "events", "--all", "--format", form, *RANGE, *where]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        seen.append(capfdbinary.readouterr().out)
    assert seen[0] == seen[1]
    assert len(seen[0].splitlines()) == 120 + (form == "csv")
