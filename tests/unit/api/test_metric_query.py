"""What a query string of /api/v1/metrics means, and when two mean the same."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from analytics_pipeline.events.reach import reach
from analytics_pipeline.events.times import EPOCH, micros
from analytics_pipeline.rollups.catalog import BUILT_IN, Metric
from analytics_pipeline.rollups.schema import LEVELS
from api.errors import BadRequest, Forbidden
from api.metrics.answers import NOT_COMPUTED, warnings_of
from api.metrics.buckets import moment
from api.metrics.cursors import Cursor, Place
from api.metrics.measures import EXACT
from api.metrics.parts import visible_versions
from api.metrics.points import Points, points_of, with_earlier
from api.metrics.query import MetricQuery, read_queries
from api.metrics.reading import Marks, MetricResult
from api.metrics.register import no_register
from api.metrics.repository import RowsRead
from api.metrics.service import Served, always
from api.metrics.values import NO_CELLS

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


def test_a_name_that_the_catalog_does_not_have_gets_the_nearest_one() -> None:
    assert read("metric_name=trading.totl_volume").nearest == "trading.total_volume"
    assert read("metric_name=nothing.like.it").nearest is None
    [hidden] = read_queries(
        b"metric_name=trading.totl_volume",
        now=NOW,
        max_points=50_000,
        catalog=BUILT_IN,
        reach=reach(["a"], {}),
    )
    assert hidden.nearest is None


def test_a_time_when_the_metric_counted_events_that_a_key_does_not_see_is_refused() -> None:
    metric, edited = BUILT_IN.by_name["trading.total_volume"], datetime(2026, 1, 31, 6, tzinfo=UTC)
    now = always(metric)._replace(first=edited, complete_from=edited)
    before = always(metric)._replace(metric_id="before", end=edited, complete_until=edited, event_types=())
    seen = reach(["order.*"], {})

    def ask(start: str, more: str = "", **how: Any) -> tuple[MetricQuery, ...]:
        query = f"metric_name=trading.total_volume&interval=1h&start_time=2026-01-{start}Z{more}"
        return read_queries(
            query.encode(), now=NOW, max_points=50_000, catalog=BUILT_IN,
            versions_of=lambda _: (before._replace(**how), now), reach=seen,
        )  # fmt: skip

    with pytest.raises(Forbidden, match=r"Until 2026-01-31T06:00:00Z the metric was made of events of types"):
        ask("31T05:00:00")
    with pytest.raises(Forbidden):
        ask("31T05:00:00", event_types=("order.filled", "market.data.update"))
    with pytest.raises(Forbidden):
        ask("31T06:00:00", "&compare=previous")
    assert ask("31T06:00:00")
    assert ask("31T05:00:00", event_types=("order.filled", "order.placed"))
    assert visible_versions("", (before, now), seen) == [now]
    assert visible_versions("event_type", (before, now), seen) == [before, now]


def test_equal_questions_have_one_canonical_text_and_others_have_others() -> None:
    base = "metric_name=trading.total_volume&interval=1h&start_time=2026-01-30T00:00:00Z&end_time=2026-01-31T00:00:00Z"
    same = [
        "&".join(reversed(base.split("&"))),
        base.replace("&interval=1h", ""),
        base + "&aggregation=sum",
        base + "&time_zone=UTC&group_by=&_=y",
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


def test_equal_questions_of_every_kind_have_one_canonical_text() -> None:
    base = (
        "metric_name=trading.order_latency&interval=1d&start_time=2026-01-20T00:00:00Z&end_time=2026-01-31T00:00:00Z"
        "&aggregation=p99.9&group_by=symbol&symbol=in:B,A&top=3&fill=zero&time_zone=Europe/Berlin&compare=7d"
        "&order=desc&limit=10"
    )
    same = [
        "&".join(reversed(base.split("&"))),
        base.replace("p99.9", "p99.900"),
        base.replace("symbol=in:B,A", "dimension=symbol:in:A,B,A"),
        base.replace("symbol=in:B,A", 'symbol=in:"A",B') + "&explain=0&cursor=&max_points=20",
        base.replace("2026-01-20T00:00:00Z", "2026-01-20T01:00:00%2B01:00"),
    ]
    assert {read(text).canonical for text in same} == {read(base).canonical}
    different = [
        base.replace("p99.9", "p99"), base.replace("in:B,A", "in:B"), base.replace("in:B,A", "ne:A"),
        base.replace("top=3", "top=4"), base.replace("top=3", "top="), base.replace("zero", "null"),
        base.replace("Berlin", "Paris"), base.replace("compare=7d", "compare=1d"), base.replace("compare=7d", ""),
        base.replace("desc", "asc"), base.replace("limit=10", "limit=11"), base + "&explain=1",
        base + "&counts=1",
        base.replace("&symbol=", "&strategy_id=").replace("group_by=symbol", "group_by=strategy_id"),
    ]  # fmt: skip
    assert len({read(text).canonical for text in [base, *different]}) == len(different) + 1


def test_the_last_minutes_are_a_range_that_ends_now() -> None:
    given = "metric_name=events.count&interval=1m"
    last = read(f"{given}&last=15m")
    assert (last.frame.start, last.frame.end, len(last.frame.buckets)) == (
        NOW - timedelta(minutes=15),
        NOW,
        15,
    )
    start = (NOW - timedelta(minutes=15)).isoformat().replace("+00:00", "Z")
    assert last.canonical == read(f"{given}&start_time={start}").canonical
    assert read(f"{given}&last=2h").frame.start == NOW - timedelta(hours=2)


@pytest.mark.parametrize(
    ("last", "more", "interval"),
    [
        ("15m", "", "1m"), ("8h", "", "1m"), ("24h", "", "5m"), ("5d", "", "15m"), ("20d", "", "1h"), ("52w", "", "1d"),
        ("24h", "&max_points=1440", "1m"), ("24h", "&max_points=24", "1h"), ("24h", "&max_points=1", "1d"),
    ],
)  # fmt: skip
def test_auto_is_the_finest_interval_with_so_few_buckets(last: str, more: str, interval: str) -> None:
    assert (
        read(f"metric_name=events.count&interval=auto&last={last}{more}").frame.buckets.interval == interval
    )


def test_auto_leaves_out_levels_that_are_gone() -> None:
    [found] = read_queries(
        b"metric_name=events.count&interval=auto&start_time=2025-06-01T00:00:00Z&end_time=2025-06-01T01:00:00Z",
        now=NOW,
        max_points=1000,
        catalog=BUILT_IN,
        kept=dict.fromkeys(("1m", "5m", "15m"), NOW - timedelta(days=100))
        | dict.fromkeys(("1h", "1d"), EPOCH),
    )
    assert found.frame.buckets.interval == "1h"


def test_several_metrics_with_commas_or_repeated() -> None:
    def names(query: str) -> list[str]:
        return [one.metric_name for one in read_all(query)]

    both = ["trading.orders_placed", "events.count.a"]
    assert names("metric_name=trading.orders_placed,events.count.a") == both
    assert names("metric_name=trading.orders_placed&metric_name=events.count.a") == both
    assert names("metric_name=events.count.a,trading.orders_placed") == both[::-1]
    assert names("metric_name=events.count.a&metric_name=events.count.a") == ["events.count.a"]
    # A comma may be part of an event type.
    assert names("metric_name=events.count.a,b") == ["events.count.a,b"]
    assert names("metric_name=events.count,no.such") == ["events.count", "no.such"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("metric_name=", "metric_name"),
        (
            "metric_name=" + ",".join(["events.count"] + [f"events.count.{n}" for n in range(20)]),
            "metric_name",
        ),
        ("metric_name=events.count." + "x" * 600, "metric_name"),
        ("metric_name=events.count&last=0m", "last"),
        ("metric_name=events.count&last=15", "last"),
        ("metric_name=events.count&last=9999999w", "last"),
        ("metric_name=events.count&last=1h&end_time=2026-01-01T00:00:00Z", "last"),
        ("metric_name=events.count&max_points=0", "max_points"),
        ("metric_name=events.count&interval=1m&max_points=10", "interval"),
        ("metric_name=events.count&top=3", "top"),
        ("metric_name=events.count&top=0&group_by=event_type", "top"),
        ("metric_name=market.price&group_by=symbol&top=3", "top"),
        ("metric_name=events.count&fill=linear", "fill"),
        ("metric_name=events.count&compare=2d", "compare"),
        ("metric_name=events.count&order=up", "order"),
        ("metric_name=events.count&limit=0", "limit"),
        ("metric_name=events.count&cursor=xyz", "cursor"),
        ("metric_name=events.count&cursor=%F0%9F%98%80", "cursor"),
        ("metric_name=events.count,users.active&cursor=AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "cursor"),
        ("metric_name=events.count&explain=2", "explain"),
        ("metric_name=events.count&time_zone=../../etc/passwd", "time_zone"),
        ("metric_name=events.count&symbol=A", "dimension"),
        ("metric_name=trading.total_volume&group_by=symbol&strategy_id=a", "group_by"),
        ("metric_name=trading.total_volume&symbol=A&strategy_id=a", "dimension"),
        ("metric_name=trading.total_volume&aggregation=p99", "aggregation"),
        ("metric_name=trading.order_latency&aggregation=p101", "aggregation"),
        ("metric_name=trading.order_latency&aggregation=p", "aggregation"),
        ("metric_name=trading.order_latency&aggregation=p99.", "aggregation"),
        ("metric_name=users.active&aggregation=rate", "aggregation"),
        ("metric_name=trading.order_fill_rate&aggregation=rate", "aggregation"),
        ("metric_name=market.price&symbol=in:A,B", "group_by"),
        ("metric_name=trading.total_volume&aggregation=skipped&symbol=A", "dimension"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(query: str, parameter: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_all(query)
    assert caught.value.extra["parameter"] == parameter
    assert "xyz" not in caught.value.detail


def test_a_cursor_belongs_to_its_range_and_question() -> None:
    asked = (
        "metric_name=trading.total_volume&interval=5m&start_time=2026-01-31T00:00:00Z&group_by=symbol&limit=9"
    )
    first = read(asked)
    place = Place(micros(NOW - timedelta(hours=1)), '{"symbol": "é"}')
    cursor = Cursor(place, first.frame.start, first.frame.end, first.mark).text()
    later = NOW + timedelta(hours=1)
    for more in ("", "&counts=1", "&explain=1", "&end_time=2026-01-31T12:34:56Z", "&order=asc", "&fill=none"):
        found = read(f"{asked}{more}&cursor={cursor}", now=later).frame
        assert (found.end, found.after) == (NOW, place), more
    relative = "metric_name=trading.total_volume&interval=5m&group_by=symbol&last=45296s"
    assert read(f"{relative}&cursor={cursor}", now=later).frame.end == NOW
    others = [
        asked.replace("volume&", "volume&order=desc&"), asked.replace("5m", "15m"), relative.replace("96s", "97s"),
        asked.replace("total_volume", "orders_filled"), asked.replace("group_by=symbol", "symbol=A"),
        asked + "&symbol=A", asked + "&top=3", asked + "&fill=zero", asked + "&compare=1d",
        asked + "&aggregation=avg", asked + "&time_zone=Asia/Kolkata", asked + "&end_time=2026-01-31T12:00:00Z",
        asked.replace("T00:00:00Z", "T00:05:00Z"),
    ]  # fmt: skip
    for other in others:
        with pytest.raises(BadRequest, match=r"^cursor: belongs to another question$"):
            read(f"{other}&cursor={cursor}")
    unmarked = Cursor(place, first.frame.start, first.frame.end).text()
    assert read(f"metric_name=events.count&cursor={unmarked}").frame.after == place


def test_one_value_of_what_cannot_be_added_up_can_be_had() -> None:
    found = read("metric_name=market.price&symbol=BTCUSDT")
    assert (found.series.dimension_set, found.series.shown) == ("symbol", None)
    assert not found.series.is_added_up
    assert read("metric_name=trading.total_volume&symbol=in:A,B").series.is_added_up


def test_nothing_is_not_claimed_of_what_is_not_kept() -> None:
    kept = dict.fromkeys(LEVELS, NOW.replace(hour=0, minute=0, second=0))
    text = b"metric_name=events.count&interval=1h&fill=zero&compare=1d&last=24h"
    [query] = read_queries(text, now=NOW, max_points=50, catalog=BUILT_IN, kept=kept)
    points = filled(query)
    starts = query.frame.buckets.starts[points.cells.bucket]
    is_kept = starts >= micros(kept["1h"])
    assert is_kept.tolist() == [False] * 11 + [True] * 13
    assert np.array_equal(points.cells.values, np.where(is_kept, 0.0, np.nan), equal_nan=True)
    assert np.isnan(compared_of(query)).all()
    [other] = read_queries(text, now=NOW, max_points=50, catalog=BUILT_IN)
    assert other.canonical != query.canonical
    assert (compared_of(other) == 0).all()


def test_nothing_is_not_claimed_of_time_before_a_metric_was_computed() -> None:
    began = NOW.replace(hour=1, minute=30)

    def versions(metric: Metric) -> tuple[Served, ...]:
        return (always(metric)._replace(complete_from=began),)

    def ask(fill: str) -> MetricQuery:
        text = f"metric_name=events.count&interval=1h&fill={fill}&compare=previous&last=24h".encode()
        [query] = read_queries(text, now=NOW, max_points=50, catalog=BUILT_IN, versions_of=versions)
        return query

    query = ask("zero")
    points = filled(query)
    is_computed = query.frame.buckets.starts[points.cells.bucket] >= micros(began)
    assert is_computed.sum() == 11
    assert np.array_equal(points.cells.values, np.where(is_computed, 0.0, np.nan), equal_nan=True)
    assert np.isnan(compared_of(query)).all()
    for fill, shown in (("zero", points), ("none", filled(ask("none")))):
        one = ask(fill)
        size = len(one.frame.buckets)
        flags = np.zeros(size, np.bool_)
        result = MetricResult(one, shown, no_register(size), Marks(flags, flags), EXACT, RowsRead())
        assert warnings_of([result]) == [NOT_COMPUTED], fill
    assert not read("metric_name=events.count").is_unknown(query.frame.buckets).any()


def filled(query: MetricQuery) -> Points:
    return points_of(NO_CELLS, query.frame, query.is_unknown(query.frame.buckets), has_series=False)


def compared_of(query: MetricQuery) -> npt.NDArray[np.float64]:
    assert query.frame.earlier is not None
    unknown = query.is_unknown(query.frame.earlier[0])
    found = with_earlier(filled(query), NO_CELLS, query.frame, unknown).compared
    assert found is not None
    return found
