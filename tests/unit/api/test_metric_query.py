"""What a query string of /api/v1/metrics means, and when two mean the same."""

from datetime import UTC, datetime, timedelta

import pytest

from analytics_pipeline.rollups.catalog import BUILT_IN
from api.errors import BadRequest
from api.metrics.buckets import moment
from api.metrics.query import MetricQuery, read_queries
from api.times import EPOCH

NOW = datetime(2026, 1, 31, 12, 34, 56, tzinfo=UTC)


def read_all(query: str, max_points: int = 50_000, now: datetime = NOW) -> tuple[MetricQuery, ...]:
    return read_queries(query.encode(), now=now, max_points=max_points, catalog=BUILT_IN)


def read(query: str, max_points: int = 50_000, now: datetime = NOW) -> MetricQuery:
    [found] = read_all(query, max_points, now)
    return found


def test_defaults() -> None:
    found = read("metric_name=events.count.order.placed")
    frame, buckets = found.frame, found.frame.buckets
    assert (buckets.interval, frame.start, frame.end) == ("1h", NOW - timedelta(days=1), NOW)
    assert (found.aggregation, found.series.dimension_set, found.series.shown) == (
        "count",
        "event_type",
        None,
    )
    assert (buckets.first, buckets.end) == (
        datetime(2026, 1, 30, 13, tzinfo=UTC),
        datetime(2026, 1, 31, 13, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("name", "aggregation"),
    [
        ("trading.total_volume", "sum"), ("trading.order_fill_rate", "ratio"), ("trading.order_latency", "avg"),
        ("users.active", "distinct"), ("trading.orders_placed", "count"), ("events.count", "count"),
    ],
)  # fmt: skip
def test_the_default_aggregation_is_the_metrics_own(name: str, aggregation: str) -> None:
    assert read(f"metric_name={name}").aggregation == aggregation


def test_a_start_before_the_last_day_needs_no_end_and_an_end_there_no_start() -> None:
    found = read("metric_name=events.count&end_time=2026-01-01T00:00:00Z")
    assert found.frame.start == datetime(2025, 12, 31, tzinfo=UTC)
    found = read("metric_name=events.count&end_time=2026-02-01T00:00:00Z")
    assert found.frame.start == NOW - timedelta(days=1)


def test_equal_questions_have_one_canonical_text_and_others_have_others() -> None:
    base = "metric_name=trading.total_volume&interval=1h&start_time=2026-01-30T00:00:00Z&end_time=2026-01-31T00:00:00Z"
    same = [
        "&".join(reversed(base.split("&"))),
        base.replace("&interval=1h", ""),
        base + "&aggregation=sum",
        base + "&time_zone=UTC&group_by=&x=y",
        base.replace("2026-01-30T00:00:00Z", "2026-01-30T02:00:00.0%2B02:00"),
    ]
    assert {read(text).canonical for text in same} == {read(base).canonical}
    different = [
        base.replace("1h", "1d"), base.replace("30T", "29T"), base.replace("31T", "30T"),
        base + "&aggregation=count", base + "&group_by=symbol", base + "&group_by=strategy_id",
        base.replace("trading.total_volume", "trading.order_latency"),
    ]  # fmt: skip
    assert len({read(text).canonical for text in [base, *different]}) == len(different) + 1


def test_a_total_and_its_only_group_are_different_answers() -> None:
    name = "metric_name=events.count.order.placed"
    assert read(name).canonical != read(f"{name}&group_by=event_type").canonical


@pytest.mark.parametrize(
    ("query", "parameter", "says"),
    [
        ("metric_name=users.active&aggregation=p99", "aggregation", "distinct"),
        ("metric_name=trading.total_volume&group_by=user", "group_by", "symbol"),
        ("metric_name=users.active&group_by=symbol", "group_by", "has no dimensions"),
        ("metric_name=market.price", "group_by", "no total: group by symbol"),
        ("metric_name=market.price&aggregation=ohlc", "group_by", "no total: group by symbol"),
        ("metric_name=trading.total_volume&aggregation=ohlc", "aggregation", "sum, count"),
        ("metric_name=market.price&aggregation=skipped&group_by=symbol", "group_by", "total alone"),
        ("metric_name=events.count&aggregation=skipped", "aggregation", "count"),
        ("metric_name=accounts.balance&aggregation=max", "group_by", "no total: group by account_id,asset"),
        ("metric_name=accounts.balance&aggregation=max&group_by=asset", "group_by", "account_id,asset"),
        ("metric_name=accounts.balance&group_by=asset,user", "group_by", "account_id,asset"),
        ("metric_name=events.count&interval=1M", "interval", "1m, 5m, 15m, 1h, 1d"),
        ("metric_name=events.count&time_zone=Europe/Bielefeld", "time_zone", "IANA"),
        ("metric_name=events.count&start_time=2026-02-01T00:00:00Z", "start_time", "after"),
    ],
)
def test_refusals_say_what_there_is(query: str, parameter: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(query)
    assert caught.value.extra["parameter"] == parameter
    assert says in caught.value.detail


def test_the_number_of_buckets_is_capped() -> None:
    query = (
        "metric_name=events.count&interval=1m&start_time=2026-01-31T00:00:00Z&end_time=2026-01-31T01:40:00Z"
    )
    assert len(read(query, max_points=100).frame.buckets) == 100
    with pytest.raises(BadRequest, match=r"query\.max_points"):
        read(query, max_points=99)


@pytest.mark.parametrize(
    ("group_by", "carried"),
    [("", ()), ("&group_by=asset", ("asset",)), ("&group_by=asset,account_id", None)],
)
def test_last_values_are_carried_where_series_are_summed(
    group_by: str, carried: tuple[str, ...] | None
) -> None:
    found = read(f"metric_name=accounts.balance{group_by}")
    assert (found.aggregation, found.series.dimension_set) == ("last", "account_id,asset")
    assert found.series.is_carried is (carried is not None)
    if carried is not None:
        assert (found.series.shown or ()) == carried
    assert found.data_from == (found.frame.start if carried is None else EPOCH)


def test_how_far_values_are_carried_is_part_of_the_question() -> None:
    query = "metric_name=accounts.balance&start_time=2026-01-31T00:00:00Z&end_time=2026-02-02T00:00:00Z"
    found = read(query)
    assert moment(found.frame.buckets.edges[found.frame.begun]) == datetime(2026, 1, 31, 13, tzinfo=UTC)
    assert read(query, now=NOW + timedelta(minutes=1)).canonical == found.canonical
    assert read(query, now=NOW + timedelta(hours=1)).canonical != found.canonical


def test_an_unknown_metric_is_a_question_without_points() -> None:
    assert read("metric_name=no.such&aggregation=avg&group_by=anything").metric is None
