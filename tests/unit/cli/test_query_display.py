"""How answers of `analytics query` look."""

import json
from typing import Any

import pytest

from analytics_pipeline.cli import query_display
from analytics_pipeline.cli.asking import error_of
from analytics_pipeline.errors import ConfigurationError, EnvironmentFault


def point(minute: int, value: float | None, state: str | None = "final", **more: Any) -> dict[str, Any]:
    return {
        "timestamp": f"2026-05-15T22:{minute:02}:00Z", "value": value, "dimensions": more.pop("dimensions", {}),
        "state": state, "revision": more.pop("revision", 1), **more,
    }  # fmt: skip


def answer(*points: dict[str, Any], name: str = "trading.total_volume") -> dict[str, Any]:
    return {
        "cached": False,
        "result": {"metric_name": name, "interval": "1m", "aggregation": "sum", "data_points": list(points)},
    }


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([None, None], "  "),
        ([5, 5, 5], "▄▄▄"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([0, None, 70], "▁ █"),
        ([-1.5, 1.5], "▁█"),
    ],
)
def test_a_sparkline_goes_from_the_lowest_to_the_highest(values: list[float | None], line: str) -> None:
    assert query_display.sparkline(values) == line


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("symbol=BTCUSDT", "symbol:eq:BTCUSDT"),
        ("symbol=A,B", "symbol:in:A,B"),
        ("symbol=a:b", "symbol:eq:a:b"),
        ("symbol:prefix:BTC=", "symbol:prefix:BTC="),
        ("symbol", "symbol"),
    ],
)
def test_filters_are_written_as_people_do(text: str, parameter: str) -> None:
    assert query_display.condition(text) == parameter


@pytest.mark.parametrize(
    ("one", "is_open"),
    [
        (point(0, 1), False),
        (point(0, 1, "restated", revision=3), False),
        (point(0, 1, pending=True), True),
        (point(0, 1, "open"), True),
        (point(0, 1, "settling"), True),
        (point(0, 1, None), True),
    ],
)
def test_what_may_still_change_is_marked(one: dict[str, Any], is_open: bool, capsys) -> None:
    assert query_display.is_open(one) is is_open
    query_display.show_metrics(answer(one), "table", None)
    out = capsys.readouterr().out
    assert ("* may still change" in out) is is_open
    query_display.show_metrics(answer(point(1, 2), one), "sparkline", None)
    assert ("* the last bucket may still change" in capsys.readouterr().out) is False
    query_display.show_metrics(
        answer(one, point(1, 2, one["state"], pending=one.get("pending"))), "sparkline", None
    )
    assert ("* the last bucket may still change" in capsys.readouterr().out) is is_open


def test_a_table_shows_times_of_the_zone_dimensions_and_numbers_in_full(capsys) -> None:
    points = [point(30, 1234567, dimensions={"symbol": "A\x1b[31m"}), point(31, 7779245.7373158, "open")]
    query_display.show_metrics(answer(*points), "table", "Asia/Tokyo")
    out = capsys.readouterr().out
    assert "2026-05-16 07:30" in out
    assert "1,234,567" in out
    assert "7,779,245.74" in out
    assert "\x1b" not in out
    assert r"A\x1b[31m" in out


def test_csv_has_a_column_for_everything_and_times_in_utc(capsys) -> None:
    points = [point(0, 1.5, dimensions={"symbol": "A"}, pending=True), point(1, None, None, filled=True)]
    query_display.show_metrics(answer(*points), "csv", "Asia/Tokyo")
    lines = capsys.readouterr().out.split()
    assert (
        lines[0] == "metric_name,timestamp,symbol,value,state,revision,pending,incomplete,predecessor,filled"
    )
    assert lines[1] == "trading.total_volume,2026-05-15T22:00:00Z,A,1.5,final,1,true,false,false,false"
    assert lines[2] == "trading.total_volume,2026-05-15T22:01:00Z,,,,1,false,false,false,true"


def test_json_is_what_the_api_answers_and_warnings_go_to_stderr(capsys) -> None:
    whole = answer(point(0, 1)) | {"warnings": ["There were more values."]}
    query_display.show_metrics(whole, "json", None)
    assert json.loads(capsys.readouterr().out) == whole
    query_display.show_metrics(whole, "csv", None)
    assert capsys.readouterr().err == "There were more values.\n"


def test_events_as_table_csv_and_lines(capsys) -> None:
    event = {"id": "x", "event_type": "a", "properties": {"p": "ü"}, "timestamp": "2026-05-15T22:00:00Z"}
    page = {"events": [event], "count": 1, "next_cursor": "abc"}
    query_display.show_events(page, "csv", "timestamp, properties")
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["timestamp,properties", '2026-05-15T22:00:00Z,"{""p"": ""ü""}"']
    assert "--cursor abc" in captured.err
    query_display.show_events(page, "ndjson", None)
    assert json.loads(capsys.readouterr().out) == event
    query_display.show_events(page, "table", None)
    assert "2026-05-15T22:00:00Z" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "problem", "kind", "sentence"),
    [
        (400, {"detail": "group_by: no", "parameter": "group_by"}, ConfigurationError, "--group-by: no"),
        (
            401,
            {"detail": "No key."},
            ConfigurationError,
            "No key. The key comes from ANALYTICS_API_KEY or --api-key-file.",
        ),
        (503, {"detail": "Postgres is not reachable."}, EnvironmentFault, "Postgres is not reachable."),
        (502, {}, EnvironmentFault, "the API answered 502"),
    ],
)
def test_problems_of_the_api_are_errors_in_the_words_of_the_options(
    status: int, problem: dict[str, object], kind: type[Exception], sentence: str
) -> None:
    error = error_of(status, problem)
    assert (type(error), str(error)) == (kind, sentence)
