"""What the events say, read from `metrics_live` (settled plus pending) by SQL."""

# ruff: noqa: S608 - made of the names below, run by Grafana

from deploy.grafana.board import Board, Json, Panel, Sql

INTERVALS = ("1m", "5m", "15m", "1h", "1d")

_INTERVAL: Json = {
    "name": "interval",
    "label": "interval",
    "type": "custom",
    "query": ",".join(INTERVALS),
    "current": {"text": "1m", "value": "1m", "selected": True},
    "options": [{"text": name, "value": name, "selected": name == "1m"} for name in INTERVALS],
}
_MOST_LINES = 12


def _total(value: str, metric: str, line: str) -> Sql:
    """One line: the total of a metric."""
    return Sql(
        f"""SELECT time_bucket AS time, {value} AS value, '{line}' AS metric
FROM metrics_live
WHERE metric_name = '{metric}' AND interval = '$interval' AND dimension_set = ''
    AND $__timeFilter(time_bucket)
ORDER BY time_bucket"""
    )


def _by(value: str, metric: str, dimension: str) -> Sql:
    """A line for each value of a dimension, those with most events; `name.*`: each has a metric of its own name."""
    is_metric = f"LIKE '{metric[:-1]}%'" if metric.endswith("*") else f"= '{metric}'"
    return Sql(
        f"""SELECT time_bucket AS time, {value} AS value, dimensions ->> '{dimension}' AS metric
FROM metrics_live
WHERE metric_name {is_metric} AND interval = '$interval' AND dimension_set = '{dimension}'
    AND $__timeFilter(time_bucket)
    AND dimensions ->> '{dimension}' IN (
        SELECT dimensions ->> '{dimension}' FROM metrics_live
        WHERE metric_name {is_metric} AND interval = '1h' AND dimension_set = '{dimension}'
            AND time_bucket >= $__timeFrom()::timestamptz - interval '1 hour' AND time_bucket <= $__timeTo()
        GROUP BY 1 ORDER BY sum(count) DESC LIMIT {_MOST_LINES}
    )
ORDER BY time_bucket"""
    )


def _ratio(part: str, whole: str, line: str) -> Sql:
    """One line: how many percent the counts of one metric are of another's."""
    return Sql(
        f"""SELECT time_bucket AS time,
    100.0 * sum(count) FILTER (WHERE metric_name = '{part}')
        / nullif(sum(count) FILTER (WHERE metric_name = '{whole}'), 0) AS value,
    '{line}' AS metric
FROM metrics_live
WHERE metric_name IN ('{part}', '{whole}') AND interval = '$interval' AND dimension_set = ''
    AND $__timeFilter(time_bucket)
GROUP BY time_bucket ORDER BY time_bucket"""
    )


BOARD = Board(
    "b25-business",
    "B25 Analytics: business",
    "What the events say. The last bucket is still open: it grows until its end.",
    [
        Panel(
            "Events by type",
            "short",
            "Events a bucket, the twelve types with most. Normal: the shape of the trading day.",
            [_by("count", "events.count.*", "event_type")],
            is_stacked=True,
        ),
        Panel(
            "Orders",
            "short",
            "Orders placed, filled, canceled and rejected a bucket. Normal: filled follows placed, rejected is near 0.",
            [
                _total("count", f"trading.orders_{name}", name)
                for name in ("placed", "filled", "canceled", "rejected")
            ],
        ),
        Panel(
            "Fill rate and error rate",
            "percent",
            "Filled and rejected orders in percent of those placed in the same bucket; above 100 % when older orders "
            "fill. Normal: steady; an error rate above 5 % is a broken strategy or venue.",
            [
                _ratio("trading.orders_filled", "trading.orders_placed", "filled"),
                _ratio("trading.orders_rejected", "trading.orders_placed", "rejected"),
            ],
        ),
        Panel(
            "Volume by symbol",
            "short",
            "Price × quantity of fills, in quote currency, a bucket.",
            [_by("sum", "trading.total_volume", "symbol")],
            is_stacked=True,
        ),
        Panel(
            "Realized pnl by strategy",
            "short",
            "Sum of pnl of fills, in quote currency, a bucket. A strategy below 0 for a whole day deserves a look.",
            [_by("sum", "trading.realized_pnl", "strategy_id")],
        ),
        Panel(
            "Commission",
            "short",
            "Paid for fills, in quote currency, a bucket. Normal: proportional to volume.",
            [_total("sum", "trading.commission", "commission")],
        ),
        Panel(
            "Order latency",
            "ms",
            "Mean and slowest latency of fills. Normal: a steady mean; quantiles are in the API (aggregation=p99).",
            [
                _total("avg", "trading.order_latency", "mean"),
                _total("max", "trading.order_latency", "slowest"),
            ],
        ),
        Panel(
            "Price by symbol",
            "short",
            "Mean price of a bucket.",
            [_by("avg", "market.price", "symbol")],
        ),
        Panel(
            "Signals by strategy",
            "short",
            "Signals a bucket. Normal: a strategy that runs gives some; none for an hour means that it hangs.",
            [_by("count", "strategies.signals", "strategy_id")],
        ),
        Panel(
            "Positions",
            "short",
            "Positions opened and closed a bucket. Normal: as many of one as of the other over a day.",
            [
                _total("count", "trading.positions_opened", "opened"),
                _total("count", "trading.positions_closed", "closed"),
            ],
        ),
        Panel(
            "Alerts by severity",
            "short",
            "Alerts that the trading system raised. Normal: no critical ones.",
            [_by("count", "alerts.triggered", "severity")],
            is_stacked=True,
        ),
    ],
    variables=[_INTERVAL],
)
