"""Tables of answers without points have the columns that were asked for; what is no argument says what is one."""

import json
from typing import Any

import pytest

from b25_client.metrics import metrics_of, metrics_request

EMPTY: dict[str, Any] = {
    "cached": False,
    "result": {
        "metric_name": "trading.total_volume", "interval": "1h", "start_time": "2026-01-31T10:00:00Z",
        "end_time": "2026-01-31T12:00:00Z", "aggregation": "sum", "data_points": [],
    },
}  # fmt: skip


@pytest.mark.parametrize("group_by", ["symbol,asset", ["symbol", "asset"], "symbol, asset"])
def test_a_table_without_points_has_the_dimensions(group_by: object) -> None:
    [found] = metrics_of(json.loads(json.dumps(EMPTY)), {"group_by": group_by})
    assert {"symbol", "asset"} <= set(found.to_arrow().column_names)
    [total] = metrics_of(EMPTY)
    assert "symbol" not in total.to_arrow().column_names


def test_a_dimension_is_no_argument_of_its_own() -> None:
    with pytest.raises(TypeError, match="dimension='symbol:eq:BTCUSDT'"):
        metrics_request("trading.total_volume", {"symbol": "BTCUSDT"})
