"""The screen of `analytics top` fits every terminal, whatever is known."""

from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from analytics_pipeline.cli.top_view import line, screen
from analytics_pipeline.overview.exposed import between, count
from analytics_pipeline.overview.moment import Api, Moment, Process
from analytics_pipeline.storage.dead_letters import Letter
from analytics_pipeline.storage.overview import RollupState, SourceRate, TypeRate
from analytics_pipeline.storage.problems import Kind, Problem, Severity

AT = datetime(2026, 5, 15, 12, 0, 7, tzinfo=UTC)


def letter(number: int) -> Letter:
    return Letter(
        number, "order.events", 3, 4711, "not_json", "expected \x1b[31m value " * 9, None, None, "g", "open", 0, AT,
        None, None, None, None, None, 12,
    )  # fmt: skip


def trouble(number: int) -> Problem:
    severity = Severity.ERROR if number < 4 else Severity.WARNING
    return Problem(Kind.PARTITION_STOPPED, severity, f"order.events/{number} has stopped: all bad.", "Look.")


def full() -> Moment:
    names = (
        "http",
        "market.data",
        "order.events",
        "trading.events",
        "user.actions",
        *(f"topic.{n}" for n in range(9)),
    )
    return Moment(
        AT,
        [SourceRate(name, 1234.5, 1230.0, 3.0, 1.5, 0.4) for name in names],
        {name: dict.fromkeys(range(12), 12_345) for name in names[1:]},
        [TypeRate(f"a.long.type.of.event.{n}", 100.0 - n) for n in range(30)],
        RollupState(12_345, 61.0, AT, 3),
        [letter(n) for n in range(30)],
        Api(120.5, 0.5, 90.0, 10.0, 3),
        [Process(f"dagster-{n}", 12.5, 123_456_789) for n in range(9)],
        {"metrics": "no metrics at 127.0.0.1:9098 (ConnectionRefusedError): is the API running here? " * 3},
        [trouble(n) for n in range(9)],
    )


def drawn(moment: Moment, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, highlight=False, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(screen(moment, width, height, foot="q quits"))
    return captured.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (60, 24), (100, 30), (250, 80)])
@pytest.mark.parametrize(
    "moment", [full(), Moment(AT), Moment(AT, problems={"postgres": "away", "kafka": "away"})]
)
def test_no_line_is_wider_and_no_screen_higher_than_the_terminal(
    moment: Moment, width: int, height: int
) -> None:
    lines = drawn(moment, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert lines[-1].startswith("q quits")
    assert "\x1b" not in "".join(lines)


def test_a_narrow_screen_has_every_part() -> None:
    text = "\n".join(drawn(full(), 80, 24))
    for word in (
        "in 17,283/s", "order.events", "12k 12k", "a.long.type.of.event.0", "pending deltas", "not_json", "dagster-0",
        "metrics: no metrics", "0.4 s",
    ):  # fmt: skip
        assert word in text, text


def test_what_is_wrong_stands_first_and_what_does_not_fit_is_counted() -> None:
    narrow, wide = drawn(full(), 80, 24), drawn(full(), 160, 100)
    assert narrow[1].startswith("metrics: no metrics")
    assert narrow[2:4] == [
        "error: order.events/0 has stopped: all bad.",
        "and 8 more: GET /api/v1/pipeline and `analytics doctor` name them all",
    ]
    assert wide[10] == "warning: order.events/8 has stopped: all bad."
    assert "error: order.events/0 has stopped: all bad." in line(full())
    assert [one["name"] for one in full().plain()["pipeline_problems"]] == ["partition_stopped"] * 9


def test_a_wide_screen_has_the_api_and_whole_numbers() -> None:
    text = "\n".join(drawn(full(), 160, 50))
    for word in ("12,345", "120.5/s", "90.0/s, 90%", "final until", "12:00Z", "2026-05-15 12:00:07Z"):
        assert word in text, text


def test_what_is_not_known_is_a_question_mark() -> None:
    moment = Moment(
        AT, lag={"order.events": {0: 5, 1: None}}, problems={"postgres": "Postgres cannot be reached"}
    )
    text = "\n".join(drawn(moment, 80, 24))
    assert "lag ?" in text
    assert "5 ?" in text
    assert "postgres: Postgres cannot be reached" in text
    assert line(moment).endswith("postgres: Postgres cannot be reached")
    assert Moment(AT, lag={"a": {0: 5, 1: 6}}).waiting == 11


def test_rates_of_the_api_are_what_changed_and_survive_a_restart() -> None:
    page = """
# TYPE analytics_http_requests_total counter
analytics_http_requests_total{method="GET",route="a",status="200"} %d
analytics_http_requests_total{method="GET",route="a",status="503"} %d
# TYPE analytics_cache_hits_total counter
analytics_cache_hits_total{level="process"} %d
# TYPE analytics_cache_misses_total counter
analytics_cache_misses_total %d
# TYPE analytics_api_open_streams gauge
analytics_api_open_streams 2
"""
    first = count(text_string_to_metric_families(page % (100, 10, 50, 5)), 10.0)
    second = count(text_string_to_metric_families(page % (120, 14, 68, 7)), 12.0)
    assert between(first, second) == Api(12.0, 2.0, 9.0, 1.0, 2)
    assert between(first, second).hit_ratio == 0.9
    anew = count(text_string_to_metric_families(page % (100, 10, 50, 5)), 14.0)
    assert between(second, anew).requests == 55.0
    assert Api(0, 0, 0, 0, 0).hit_ratio is None
