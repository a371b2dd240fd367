"""When retention runs."""

import pytest

from analytics_pipeline.defs.maintenance.schedules import cron_of
from analytics_pipeline.settings import parse_duration


@pytest.mark.parametrize(
    ("interval", "cron"),
    [
        ("10m", "17 */1 * * *"),
        ("6h", "17 */6 * * *"),
        ("1d", "17 0 * * *"),
        ("36h", "17 0 * * *"),
        ("1w", "17 0 */7 * *"),
        ("90d", "17 0 */28 * *"),
    ],
)
def test_the_cleanup_interval_becomes_the_nearest_cron_schedule(interval, cron):
    assert cron_of(parse_duration(interval)) == cron
