"""Small computations on what the database says about the books."""

import pytest

from analytics_pipeline.storage.books import Freshness


@pytest.mark.parametrize(("ages", "oldest"), [((None, None, None), 0.0), ((None, 3.0, 1.0), 3.0)])
def test_what_waits_nowhere_is_of_age_nothing(
    ages: tuple[float | None, float | None, float | None], oldest: float
) -> None:
    assert Freshness(*ages, pending=0).oldest == oldest
