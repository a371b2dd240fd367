"""Which event types of declarations are told of."""

import pytest

from analytics_pipeline.events.judge import BUILT_IN_TYPES
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.unfamiliar_types import warnings
from tests.unit.rollups.test_declarations import metric

KNOWN = {*BUILT_IN_TYPES, "my.signal"}


@pytest.mark.parametrize(
    ("event_type", "hint"),
    [
        ("order.filed", "did you mean order.filled?"),
        ("order_filled", "did you mean order.filled?"),
        ("my.signals", "did you mean my.signal?"),
        ("my.signal", None),
        ("order.expired", "it counts nothing until such events come"),
    ],
)
def test_a_type_that_nobody_knows_is_told_with_the_nearest_one(event_type: str, hint: str | None) -> None:
    one = metric(event_types=(event_type,))
    at = f"{one.declared_at}: metric {one.name!r}: {event_type} is no built-in or defined type: "
    expected = [] if hint is None else [at + hint]
    assert list(warnings([one], KNOWN, is_all_known=True)) == expected
    is_near = hint is not None and hint.startswith("did you mean")
    assert list(warnings([one], KNOWN, is_all_known=False)) == (expected if is_near else [])


def test_the_catalog_names_built_in_types_alone() -> None:
    assert list(warnings(BUILT_IN.metrics, BUILT_IN_TYPES, is_all_known=True)) == []
