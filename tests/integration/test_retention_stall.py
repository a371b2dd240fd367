"""Landings go on while a long query keeps retention from detaching; the long form is in `tests/chaos`."""

import pytest

from tests.integration.landing_stall import measure

HOLD = 3.0
MOST = 0.5
"""Seconds that 99 of 100 landings may take."""


@pytest.mark.slow
def test_landings_do_not_wait_while_a_query_holds_the_table(database):
    found = measure(database, HOLD)
    print(found)
    assert found.dropped == 3
    assert len(found.seconds) >= 20
    assert found.quantile(0.99) < MOST, str(found)
