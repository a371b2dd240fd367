"""Landings while a query of 30 s keeps retention from detaching; the short form is in
`tests/integration/test_retention_stall.py`."""

from pathlib import Path

import pytest

from tests.chaos.servers import PostgresServer, stopping
from tests.integration.landing_stall import measure

HOLD = 30.0
MOST = 0.5


@pytest.mark.long
@pytest.mark.timeout(180)
def test_landings_do_not_wait_for_a_query_of_half_a_minute(chaos_folder: Path) -> None:
    folder = chaos_folder / "stall"
    folder.mkdir()
    server = PostgresServer(folder)
    with stopping(server):
        found = measure(server.database, HOLD)
    print(found)
    assert found.dropped == 3
    assert found.quantile(0.99) < MOST, str(found)
