"""How many different users there were, over HTTP: exact while they can be counted, else estimated and said to be."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.rollups.precision import DISTINCT_ERROR
from analytics_pipeline.rollups.states import DISTINCT_SIZE
from tests.integration.api_support import Api, event, iso, land, running, settings_for, settle
from tests.integration.databases import database_copy

FEW, MANY = DISTINCT_SIZE - 24, 4 * DISTINCT_SIZE
START = (datetime.now(UTC) - timedelta(days=2)).replace(hour=3, minute=0, second=0, microsecond=0)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def api(postgres: Postgres, template_database: str) -> Iterator[Api]:
    """An hour with few users and one with many, each half settled, half pending, with a third of the users in both."""
    with database_copy(postgres, template_database, "distinct") as database:
        for part in (0, 1):
            for hour, users in enumerate((FEW, MANY)):
                shown = range(0, users * 2 // 3) if part == 0 else range(users // 3, users)
                land(database, [
                    event("user.login", START + hour * HOUR + timedelta(milliseconds=user), f"user-{user}")
                    for user in shown
                ])  # fmt: skip
            if part == 0:
                settle(database)
        with running(settings_for(database)) as found:
            yield found


def test_few_are_counted_and_many_estimated(api: Api) -> None:
    def asked(first: int, hours: int, interval: str = "1h") -> tuple[list[float], str, float]:
        found = api.get(
            "/api/v1/metrics",
            metric_name="users.active",
            interval=interval,
            start_time=iso(START + first * HOUR),
            end_time=iso(START + (first + hours) * HOUR),
        )["result"]
        points = [point["value"] for point in found["data_points"]]
        return points, found["precision"], found["relative_error"]

    assert asked(0, 1) == ([FEW], "exact", 0.0)
    for first, hours in ((1, 1), (0, 2)):
        *few, many = (found := asked(first, hours))[0]
        assert few == [FEW][: hours - 1]
        assert found[1:] == ("estimated", DISTINCT_ERROR)
        assert many == pytest.approx(MANY, rel=5 * DISTINCT_ERROR)
        assert many != MANY  # else nothing was estimated: hashes of these names do not depend on chance
