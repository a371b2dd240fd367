"""Wrong declarations are refused when a catalog is made: each with one sentence, at the line to mend."""

import inspect
import re
from dataclasses import replace
from typing import Any

import pytest

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups import declarations
from analytics_pipeline.rollups.automatic import with_automatic
from analytics_pipeline.rollups.catalog import (
    BUILT_IN,
    NUMBER_FIELDS,
    TEXT_FIELDS,
    Aggregation,
    Catalog,
    Kind,
    Metric,
)
from analytics_pipeline.rollups.expressions import faults

NAME = "test.metric"
SYMBOL = ((), ("symbol",))
FILLED = ("order.filled",)


def metric(**fields: Any) -> Metric:
    return Metric(**{"name": NAME, "description": "A test.", "unit": "1", **fields})


def problems(*metrics: Metric) -> list[str]:
    """What a catalog of these says, without the places."""
    try:
        Catalog(metrics)
    except ConfigurationError as error:
        return [re.sub(rf"^{re.escape(__file__)}:\d+: ", "", problem) for problem in error.problems]
    return []


RATIO = (Aggregation.RATIO,)
RIGHT: list[dict[str, Any]] = [
    {},
    {"event_types": FILLED, "value": "price * quantity", "aggregations": (Aggregation.AVG, Aggregation.SUM)},
    {"value": "TRY(price::INTEGER)", "aggregations": (Aggregation.MAX,)},
    {"value": "CASE WHEN symbol = 'BTCUSDT' THEN nullif(price, 0) END", "aggregations": (Aggregation.MAX,)},
    {
        "value": "latency_ms",
        "kind": Kind.QUANTILE,
        "dimension_sets": SYMBOL,
        "aggregations": (Aggregation.P99,),
    },
    {"value": "user_id", "kind": Kind.DISTINCT, "aggregations": (Aggregation.DISTINCT, Aggregation.COUNT)},
    {"dimension_sets": ((), ("symbol", "strategy_id"), ("event_type",))},
    {"dimension_sets": ((), ("symbol",)), "name_by_dimension": True},
    {"event_types": ("a", "b"), "ratio": ("b", "a"), "aggregations": (Aggregation.RATIO,)},
    {"event_types": ("Ü + 😀", "x" * 255)},
    {"dimension_sets": (("symbol",),)},
    {"value": "price", "kind": Kind.ENDS, "aggregations": (Aggregation.LAST, Aggregation.OHLC)},
    {
        "value": "price",
        "kind": Kind.ENDS,
        "dimension_sets": (("symbol", "strategy_id"),),
        "aggregations": (Aggregation.LAST,),
        "is_carried": True,
    },
    {"dimension_sets": SYMBOL, "series_limit": 1},
]


@pytest.mark.parametrize("fields", RIGHT, ids=str)
def test_what_is_right_is_taken(fields: dict[str, Any]) -> None:
    assert problems(metric(**fields)) == []


WRONG: list[tuple[dict[str, Any], str]] = [
    # names, texts
    ({"name": "volume"}, "its name must be a group, a dot and a name, such as trading.total_volume: a-z, 0-9 and _"),
    ({"name": "Trading.volume"}, "its name must be a group"),
    ({"name": "trading."}, "its name must be a group"),
    ({"name": "trading.vo lume"}, "its name must be a group"),
    ({"name": "trading.a\nb"}, "its name must be a group"),
    ({"name": ""}, "its name must be a group"),
    ({"name": "_register"}, "its name must be a group"),
    ({"name": "a." + "x" * 99}, "its name has 101 characters: 100 are the most"),
    ({"name": "custom.a.b"}, "names that begin with custom. are those of metrics"),
    ({"name": 5}, "its name is no text: write it in quotes"),
    ({"description": " "}, "it has no description of one line: say in one sentence what it measures"),
    ({"description": "Two\nlines."}, "it has no description of one line"),
    ({"unit": ""}, "it has no unit in one word: say what its numbers are, such as ms, percent, quote or 1"),
    ({"unit": None}, "its unit is no text"),
    # events
    ({"event_types": "order.filled"}, 'its event_types are no tuple of texts: write ("order.filled",), with the comma'),
    ({"event_types": ("",)}, "no event can be of the type ''"),
    ({"event_types": ("x" * 256,)}, "no event can be of the type 'xxx"),
    ({"event_types": ("a\x00",)}, r"no event can be of the type 'a\x00'"),
    ({"event_types": ("a", "a")}, "its event_types name a twice"),
    # ratio
    (
        {"ratio": ("a", "b"), "event_types": ("a",), "aggregations": RATIO},
        "its event_types are not those of its ratio: write ('b', 'a')",
    ),
    ({"ratio": ("a", "a"), "event_types": ("a",), "aggregations": RATIO}, "its ratio divides a by itself"),
    ({"ratio": "ab"}, "its ratio is no pair of event types"),
    ({"ratio": ("a", "b", "c")}, "its ratio is no pair of event types"),
    (
        {"ratio": ("a", "b"), "event_types": ("b", "a"), "value": "price", "aggregations": RATIO},
        "it has value and ratio: its numbers can come from one of them alone",
    ),
    # value
    ({"value": ""}, "its value '' is no SQL expression"),
    ({"value": "price +"}, "its value 'price +' is no SQL expression (syntax error at or near"),
    ({"value": "price AS p"}, "its value 'price AS p' is no SQL expression"),
    ({"value": "price) FROM t --"}, "its value has a comment or a semicolon: write one plain expression"),
    ({"value": "price; DROP TABLE t"}, "its value has a comment or a semicolon"),
    ({"value": "price) AS v WHERE (price > 0"}, "its value 'price) AS v WHERE (price > 0' is no SQL expression"),
    ({"value": "prize * quantity"}, "its value names prize, which is no column of events: did you mean price?"),
    ({"value": "foo"}, "its value names foo, which is no column of events: there are price, quantity"),
    ({"value": "minute"}, "its value names minute, which is no column of events"),
    ({"value": "facts.price"}, "its value names facts.price, which is no column of events: did you mean price?"),
    ({"value": "sum(price)"}, "its value uses sum, which aggregates: a value is of one event, list aggregations"),
    ({"value": "(SELECT price)"}, "its value asks a query of its own: it may use only the columns of one event"),
    ({"value": "lag(price) OVER ()"}, "its value uses a window function"),
    ({"value": "*"}, "its value uses *"),
    ({"value": "price + $1"}, "its value has a parameter"),
    ({"value": "price + random()"}, "its value uses random, which depends on more than the event: a recompute would"),
    ({"value": "price + epoch(now())"}, "its value uses now, which depends on more than the event"),
    ({"value": "price + length(version())"}, "its value uses version, which depends on more than the event"),
    ({"value": "price + nextval('s')"}, "its value uses nextval, which depends on more than the event"),
    ({"value": "nothing(price)"}, "its value uses nothing, which is no function of DuckDB: mend its name"),
    ({"value": "list_sum([price])"}, "its value uses list_sum, a macro of DuckDB: write out what it stands for"),
    ({"value": "1"}, "its value '1' names no column: leave value out, to count events"),
    ({"value": "symbol"}, "its value 'symbol' is text, not a number: only distinct values may be text"),
    ({"value": "price > 1"}, "its value 'price > 1' is true or false, not a number"),
    ({"value": "price, quantity"}, "its value 'price, quantity' is TUPLE(DOUBLE, DOUBLE), not a number"),
    ({"value": "price + symbol"}, "its value 'price + symbol' fits no types of columns (No function matches"),
    ({"value": "symbol::DOUBLE"}, "its value 'symbol::DOUBLE' fails where symbol = '' (Could not convert string ''"),
    ({"value": "price::INTEGER"}, "its value 'price::INTEGER' fails where price = 1.7e+308 ("),
    ({"value": "price // quantity"}, "and would stop the events beside it: write TRY(price // quantity), so that such"),
    ({"value": 5}, "its value is no text: write it in quotes, or leave it out"),
    # dimensions
    ({"dimension_sets": ((), ("venue",))}, "its dimension 'venue' is unknown: it must be one of event_type, symbol"),
    ({"dimension_sets": ((), ("user_id",))}, "its dimension 'user_id' is unknown"),
    ({"dimension_sets": ((), ("symbol", "symbol"))}, "its dimension set ('symbol', 'symbol') names symbol twice"),
    ({"dimension_sets": ((), ("symbol",), ("symbol",))}, "its dimension_sets have ('symbol',) twice: once is enough"),
    (
        {"dimension_sets": ((), ("symbol", "strategy_id"), ("strategy_id", "symbol"))},
        "its dimension_sets have ('strategy_id', 'symbol') twice",
    ),
    ({"dimension_sets": ((), ())}, "its dimension_sets have () twice"),
    (
        {"dimension_sets": ((), ("symbol", "strategy_id", "event_type"))},
        "its dimension set ('symbol', 'strategy_id', 'event_type') fits no index with the longest values",
    ),
    ({"dimension_sets": ()}, "it has no dimension_sets: write ((),) for the total alone"),
    (
        {"value": "price", "aggregations": (Aggregation.LAST,)},
        "last cannot be had of the kind value: it has count, sum, avg, min, max",
    ),
    (
        {"value": "price", "kind": Kind.ENDS, "aggregations": (Aggregation.LAST,), "is_carried": True},
        "its last values are carried, so it must be of the kind ends and have one dimension set, without the total",
    ),
    ({"series_limit": 0}, "its series_limit is 0: a group has at least 1 series in a UTC day"),
    ({"series_limit": "many"}, "its series_limit is no whole number: write 500, say, or leave it out"),
    ({"series_limit": True}, "its series_limit is no whole number"),
    ({"dimension_sets": ("symbol",)}, 'its dimension_sets are no tuple of tuples: write ((), ("symbol",))'),
    (
        {"dimension_sets": ((), ("symbol",), ("strategy_id",)), "name_by_dimension": True},
        'it is named by a dimension, so it must have the total and that one: write ((), ("event_type",))',
    ),
    ({"name_by_dimension": True}, "it is named by a dimension"),
    # kinds and aggregations
    ({"kind": Kind.REGISTER}, "its kind register is not for metrics: choose one of value, quantile, distinct"),
    ({"kind": "value"}, "its kind is none of Kind"),
    ({"kind": Kind.QUANTILE, "aggregations": (Aggregation.COUNT,)}, "its kind is quantile, and it has no value"),
    ({"kind": Kind.DISTINCT}, "its kind is distinct, and it has no value: say of what"),
    ({"kind": Kind.DISTINCT, "value": "price"}, "its distinct values are those of 'price': it must be one of"),
    ({"kind": Kind.DISTINCT, "value": "lower(user_id)"}, "its distinct values are those of 'lower(user_id)'"),
    (
        {"kind": Kind.DISTINCT, "value": "user_id", "dimension_sets": SYMBOL},
        "distinct values are counted in total alone: leave dimension_sets out",
    ),
    (
        {"kind": Kind.QUANTILE, "value": "price", "dimension_sets": ((), ("event_type",))},
        "quantiles cannot be grouped by event_type",
    ),
    ({"aggregations": ()}, "it has no aggregations: name at least one, the default first"),
    ({"aggregations": ("count",)}, "its aggregations are no tuple of Aggregation: write (Aggregation.SUM,)"),
    ({"aggregations": Aggregation.COUNT}, "its aggregations are no tuple of Aggregation"),
    ({"aggregations": (Aggregation.COUNT, Aggregation.COUNT)}, "its aggregations name count twice"),
    ({"aggregations": (Aggregation.SUM,)}, "sum cannot be had of a metric without a value: it has count"),
    ({"value": "price", "aggregations": (Aggregation.P99,)}, "p99 cannot be had of the kind value: it has count"),
    ({"value": "price", "aggregations": (Aggregation.DISTINCT,)}, "distinct cannot be had of the kind value"),
    ({"value": "price", "aggregations": (Aggregation.RATIO,)}, "ratio cannot be had of the kind value"),
    (
        {"value": "user_id", "kind": Kind.DISTINCT, "aggregations": (Aggregation.AVG,)},
        "avg cannot be had of the kind distinct: it has count, distinct",
    ),
    (
        {"event_types": ("a", "b"), "ratio": ("b", "a"), "aggregations": (Aggregation.AVG,)},
        "avg cannot be had of a ratio: it has ratio",
    ),
    # metrics of one property
    ({"name": "custom.a.b", "property_name": "b"}, "it has a property_name and no event_types"),
    ({"property_name": "b", "event_types": ("a",)}, "names that begin with custom. are those of metrics"),
    (
        {"name": "custom.a.b", "property_name": "b", "event_types": ("a",), "dimension_sets": SYMBOL},
        "a metric of one property has no dimensions",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "sentence"), WRONG, ids=str)
def test_what_is_wrong_gets_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    [problem] = problems(metric(**fields))
    assert problem.startswith(f"metric {fields.get('name', NAME)!r}: ")
    assert sentence in problem
    assert "\n" not in problem


def test_every_problem_is_told_at_once_with_its_own_line() -> None:
    here = inspect.currentframe().f_lineno  # type: ignore[union-attr]
    wrong = [
        metric(name="a.a", unit=""),
        metric(name="a.b", dimension_sets=(("venue",),)),
        metric(name="a.b", value="prize"),
    ]
    with pytest.raises(ConfigurationError) as raised:
        Catalog((*BUILT_IN.metrics, *wrong))
    places = [problem.partition(": metric")[0] for problem in raised.value.problems]
    assert places == [f"{__file__}:{here + line}" for line in (2, 3, 4, 4)]
    assert raised.value.problems[-1].endswith(f"another has this name, at {__file__}:{here + 3}: rename one")


@pytest.mark.parametrize("name", ["events.count.total", "events.count.order.placed"])
def test_no_metric_has_a_name_that_a_group_of_another_may_have(name: str) -> None:
    [problem] = problems(BUILT_IN.by_name["events.count"], metric(name=name))
    assert "names that begin with events.count. are those of its groups: choose another" in problem
    assert problems(BUILT_IN.by_name["events.count"], metric(name="events.counter")) == []


SOURCE = """
from dataclasses import replace
from analytics_pipeline.rollups.catalog import Metric

def made(name):
    return Metric(
        name=name, description="A test.", unit="1")

FIRST = Metric(
    name="a.b", description="A test.",
    unit="1",
)
BY_FUNCTION = [
    made("a.c"),
    made(
        "a.d"),
]
COPY = replace(
    FIRST, unit="2")
"""


def test_the_line_is_that_of_the_declaration_also_where_a_function_or_a_copy_makes_it() -> None:
    found: dict[str, Any] = {}
    exec(compile(SOURCE, "/somewhere/own.py", "exec"), found)
    metrics = (found["FIRST"], *found["BY_FUNCTION"], found["COPY"])
    assert [one.declared_at for one in metrics] == [f"/somewhere/own.py:{line}" for line in (9, 14, 15, 18)]


def test_where_it_stands_changes_neither_the_metric_nor_its_id() -> None:
    one, other = (
        metric(),
        metric(),
    )
    assert one.declared_at != other.declared_at
    assert (one, one.metric_id, repr(one)) == (other, other.metric_id, repr(other))
    assert replace(one, unit="ms").metric_id == one.metric_id


def test_every_aggregation_belongs_to_a_kind() -> None:
    kept = {aggregation for kind in Kind for aggregation in declarations.kept_by(kind)}
    assert kept == {one.value for one in Aggregation} - {Aggregation.RATIO, Aggregation.SKIPPED}


def test_automatic_metrics_pass_whatever_their_event_type_and_property_are_called() -> None:
    schema = {"properties": {"Größe in €": {"type": "number"}, "x" * 255: {"type": "integer"}}}
    catalog, told = with_automatic({"My Type/😀": schema, "t" * 255: schema, "count": schema})
    assert len(catalog.automatic) == 6
    assert told == []


@pytest.mark.parametrize("expression", ["price", "price * quantity", "price - quantity + latency_ms"])
def test_what_is_taken_without_asking_duckdb_would_be_taken_by_it(expression: str) -> None:
    texts = (*declarations.EVENT_TEXTS, *TEXT_FIELDS)
    assert faults(expression, texts, NUMBER_FIELDS) == faults(f"({expression})", texts, NUMBER_FIELDS) == ()
