"""What `/api/v1/pipeline` calls a problem: a sentence each, with what to do, errors first; on a good day, none."""

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics_pipeline.events.dead_letter_limit import passed
from analytics_pipeline.storage.backfill_progress import Progress
from analytics_pipeline.storage.books import Waiting
from analytics_pipeline.storage.dagster_runs import AssetCheck, Orchestration, Run
from analytics_pipeline.storage.pipeline import Partition, Pipeline
from analytics_pipeline.storage.problems import Kind, Problem, Severity, problems, worst
from analytics_pipeline.storage.standings import Standing

NOW = datetime(2026, 1, 31, 3, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def partition(number: int = 0, **changes: Any) -> Partition:
    standing = Standing("order.events", number, 100, 1, ago(1), False, ago(1), "owner", True)
    return Partition(replace(standing, **changes), 10.0)


GOOD = Pipeline(
    at=NOW,
    partitions=[partition(0), partition(1)],
    rate=20.0,
    landed_at=ago(1),
    waiting=Waiting({}, 0, 0.0, 2),
    oldest_pending=40.0,
    pending_deltas=100,
    pending_hours=1,
    unsettled=[],
    due=0,
    settled_at=ago(40),
    run_id="run",
    restated=0,
    days_ahead=6.5,
    overdue=0.0,
    read=1000,
    dead=Counter(not_json=50),
    gaps=0,
    unbalanced=0,
)
FINE = Orchestration([Run("r1", "marts", "SUCCESS", ago(9), ago(8), ago(2))], [], ago(5))


def found(pipeline: Pipeline = GOOD, **changes: Any) -> list[Problem]:
    known = {"topics": ["order.events"], "dagster": FINE, "backfills": [], "is_cache_down": False}
    return problems(pipeline, **{**known, **changes})


def test_on_a_good_day_there_is_none() -> None:
    assert found() == []
    assert worst([]) == "ok"
    assert found(dagster=None) == []


@pytest.mark.parametrize(
    ("changes", "name", "severity", "words"),
    [
        ({"gaps": 1}, "ledger_broken", "error", "1 gap between batches"),
        ({"unbalanced": 2}, "ledger_broken", "error", "2 batches that do not add up"),
        (
            {"partitions": [partition(2, is_owner_connected=False, updated_at=ago(31))]},
            "partition_unowned",
            "error",
            "Nobody reads order.events/2",
        ),
        (
            {"partitions": [partition(kafka_silent_since=ago(650), caught_up_at=ago(651)), partition(1)]},
            "kafka_away",
            "error",
            "for 11 min: of its topics nothing lands",
        ),
        (
            {"partitions": [partition(2, caught_up_at=ago(301))]},
            "partition_behind",
            "warning",
            "order.events/2 is up to 5 min behind",
        ),
        (
            {"partitions": [partition(n, caught_up_at=ago(601)) for n in range(5)]},
            "partition_behind",
            "error",
            "and 2 more are up to 10 min",
        ),
        (
            {"partitions": [partition(stop_reason="dead_letters", stopped=passed(("T", 0), 100, "all bad"))]},
            "partition_stopped",
            "error",
            "has stopped: all bad.",
        ),
        ({"waiting": Waiting({}, 3, 61.0, 0)}, "inbox_waits", "error", "3 posted events wait"),
        ({"oldest_pending": 301.0}, "merge_late", "warning", "for 5 min"),
        (
            {"dead": Counter(not_json=50, bad_id=1)},
            "dead_letters",
            "warning",
            "51 of 1,000 messages of the last hour (5.1 %)",
        ),
        ({"days_ahead": 1.9}, "partitions_run_out", "error", "for 1.9 more days"),
        ({"overdue": 3 * 86_400 + 1.0}, "retention_overdue", "warning", "3 days ago"),
    ],
)
def test_each_is_told_at_its_limit_and_alone(
    changes: dict[str, Any], name: str, severity: str, words: str
) -> None:
    [problem] = found(replace(GOOD, **changes))
    assert (problem.name, problem.severity) == (name, severity)
    assert words in problem.text
    for text in (problem.text, problem.advice):
        assert text.endswith(".")
        assert text[0].isupper() or text.startswith("order.events") or text[0].isdigit()


@pytest.mark.parametrize(
    "changes",
    [
        {"partitions": [partition(is_owner_connected=False, updated_at=ago(29))]},
        {"partitions": [partition(is_owner_connected=False, updated_at=ago(9999), is_retired=True)]},
        {"partitions": [partition(caught_up_at=ago(299))]},
        {"partitions": [partition(caught_up_at=None)]},
        {"waiting": Waiting({}, 3, 59.0, 2)},
        {"oldest_pending": 299.0},
        {"oldest_pending": None},
        {"partitions": [partition(kafka_silent_since=ago(15))]},
        {"read": 0, "dead": Counter()},
        {"days_ahead": 2.0},
        {"overdue": 3 * 86_400.0},
    ],
)
def test_within_the_limits_nothing_is_told(changes: dict[str, Any]) -> None:
    assert found(replace(GOOD, **changes)) == []


def test_a_stopped_partition_is_told_once_with_the_command_that_resolves_it() -> None:
    why = passed(("order.events", 0), 100, "the last 10 messages all became dead letters")
    stopped = partition(stop_reason="dead_letters", stopped=why, caught_up_at=ago(9999))
    [problem] = found(replace(GOOD, partitions=[stopped]))
    assert (problem.name, problem.reason) == ("partition_stopped", "dead_letters")
    assert problem.advice.startswith("Look at `analytics dead-letters groups --source order.events`")
    assert "`analytics offsets skip-to order.events 0 100`" in problem.advice


def test_a_partition_without_a_reader_is_not_also_called_late() -> None:
    gone = partition(is_owner_connected=False, updated_at=ago(900), caught_up_at=ago(900))
    assert [one.name for one in found(replace(GOOD, partitions=[gone]))] == ["partition_unowned"]


def test_a_topic_that_nobody_ever_read_is_told() -> None:
    [problem] = found(topics=["order.events", "user.actions"])
    assert (problem.name, problem.severity) == ("topic_unread", Severity.WARNING)
    assert "user.actions" in problem.text


def test_what_dagster_knows_is_told_and_a_run_that_was_made_good_is_not() -> None:
    runs = [
        Run("r4", "marts", "STARTED", ago(1), ago(1), None),
        Run("r3", "marts", "FAILURE", ago(20), ago(20), ago(10)),
        Run("r2", "merge_live", "SUCCESS", ago(30), ago(30), ago(25)),
        Run("r1", "merge_live", "FAILURE", ago(90), ago(90), ago(85)),
    ]
    checks = [
        AssetCheck("events", "dead_letter_ratio", "r", False, "warning", ago(60)),
        AssetCheck("metric_rollups_1h", "equals_raw", "r", False, "error", ago(60)),
        AssetCheck("events", "ledger_is_conserved", "r", True, "error", ago(60)),
    ]
    every = found(dagster=Orchestration(runs, checks, ago(181)))
    assert [(one.name, one.severity.value) for one in every] == [
        ("check_failed", "error"),
        ("check_failed", "warning"),
        ("run_failed", "warning"),
        ("dagster_silent", "warning"),
    ]
    assert "equals_raw of metric_rollups_1h failed at 02:59 UTC" in every[0].text
    assert "marts failed at 02:59 UTC" in every[2].text
    assert worst(every) == "error"
    assert worst(every[1:]) == "warning"
    [silent] = found(dagster=Orchestration([], [], ago(601)))
    assert (silent.name, silent.severity.value) == ("dagster_silent", "error")


def test_an_interrupted_backfill_and_an_absent_cache_are_told() -> None:
    done = Progress(
        "s", ["trading.total_volume"], False, 36, 48, ago(9), ago(8), ago(7), ago(6), ["r"], False
    )
    every = found(backfills=[done, replace(done, is_running=True)], is_cache_down=True)
    assert [one.name for one in every] == ["backfill_interrupted", "cache_down"]
    assert "of trading.total_volume was interrupted after 36 hours" in every[0].text


def test_the_table_of_the_docs_has_each_problem_with_its_severity() -> None:
    page = (Path(__file__).parents[3] / "docs/operations-over-rest.md").read_text()
    described = dict(re.findall(r"^\| `(\w+)` \| ((?:error|warning|that)[^|]*) \|", page, re.MULTILINE))
    assert described.keys() == set(Kind)
