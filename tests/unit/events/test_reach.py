"""Which events a key sees: the rule, and its one spelling."""

import pytest

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.reach import EVERYTHING, Reach, reach


def event(event_type: str, **properties: object) -> dict[str, object]:
    return {"event_type": event_type, "properties": properties}


def test_types_are_whole_or_beginnings() -> None:
    part = reach(["order.*", "user.login"], {})
    assert [one for one in ("order.placed", "order.", "user.login") if not part.has_type(one)] == []
    assert [one for one in ("order", "orders.x", "user.login2", "user", "") if part.has_type(one)] == []
    assert reach(["*"], {}).has_type("anything")
    assert EVERYTHING.has_type("anything")


def test_values_are_texts_and_all_dimensions_count() -> None:
    part = reach(None, {"strategy_id": ["a", "b"], "symbol": ["X"]})
    assert part.has(event("t", strategy_id="a", symbol="X", price=1))
    for other in (
        event("t", strategy_id="a"),
        event("t", strategy_id="c", symbol="X"),
        event("t", strategy_id=["a"], symbol="X"),
        event("t", strategy_id=None, symbol="X"),
        {"event_type": "t", "properties": None},
        {"event_type": "t"},
    ):
        assert not part.has(other)
    assert not reach(None, {"n": ["1"]}).has(event("t", n=1))


def test_the_same_part_has_the_same_text() -> None:
    first = reach(["b", "a", "a"], {"y": ["2", "1"], "x": ["3"]})
    second = reach(("a", "b"), {"x": ["3", "3"], "y": ["1", "2"]})
    assert first == second
    assert first.canonical == second.canonical != reach(["a"], {}).canonical
    assert (EVERYTHING.canonical, Reach().is_everything, first.is_everything) == ("", True, False)
    # Names and values never run into each other.
    assert reach(["a,b"], {}).canonical != reach(["a", "b"], {}).canonical


@pytest.mark.parametrize(
    ("event_types", "dimensions"),
    [
        (["a*b"], {}),
        ([""], {}),
        (["\n"], {}),
        (["x" * 256], {}),
        (["\ud800"], {}),
        (None, {"a b": ["1"]}),
        (None, {"": ["1"]}),
        (None, {"event_type": ["1"]}),
        (None, {"session_id": ["1"]}),
        (None, {"a": []}),
        (None, {"a": [""]}),
        (None, {"a": [str(n) for n in range(100)]}),
    ],
)
def test_what_cannot_be_meant(event_types: list[str] | None, dimensions: dict[str, list[str]]) -> None:
    with pytest.raises(ConfigurationError):
        reach(event_types, dimensions)
