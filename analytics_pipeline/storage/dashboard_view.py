"""The materialized view `dashboard_metrics`: one row, for SQL users of the original service.

Belongs here: bringing it up to date. Does not belong here: the API's dashboard, which reads the live numbers itself.
"""

from datetime import datetime
from typing import NamedTuple

from analytics_pipeline.storage.connection import Connection

_REFRESH = "SELECT refresh_dashboard_metrics()"
_READ = """
SELECT active_users, events_per_second, orders_placed_1h, orders_filled_1h, active_strategies, last_updated
FROM dashboard_metrics
"""


class DashboardRow(NamedTuple):
    """The row: distinct over five minutes, rates over the last whole minute and the open one, orders over an hour."""

    active_users: int
    events_per_second: float
    orders_placed_1h: int
    orders_filled_1h: int
    active_strategies: int
    last_updated: datetime


def refresh_dashboard(connection: Connection) -> DashboardRow:
    """Compute the row anew from settled and pending rollups; readers go on with the old one meanwhile."""
    connection.execute(_REFRESH)
    row = connection.execute(_READ).fetchone()
    assert row is not None
    return DashboardRow(*row)
