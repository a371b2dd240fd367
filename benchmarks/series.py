"""What budgets of series cost a landing, and what they save it when names flood in.

Run by `python -m benchmarks.series`; needs no Kafka. Lands the same batches of 20,000 events by one connection into
fresh databases, by turns with budgets and without. Then batches of 20,000 events with 10,000 event types, symbols and
strategies each, which nobody has seen before.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pyarrow as pa

from analytics_pipeline.events.decode import Decoded, decode_batches
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.rollups.catalog import Metric
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.offsets import Span
from analytics_pipeline.storage.series import Admission
from benchmarks import workload
from benchmarks.servers import Servers

_BATCH = 20_000
_NAMES = 10_000
_SIZES = """
SELECT count(*), pg_total_relation_size('rollup_deltas'), (SELECT count(*) FROM metric_series),
    pg_total_relation_size('metric_series')
FROM rollup_deltas
"""


class _Timed(Admission):
    """Notes how long it took, in seconds, a batch."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(conninfo)
        self.seconds: list[float] = []

    def within_budget(self, deltas: pa.Table, metrics: Mapping[str, Metric]) -> pa.Table:
        began = time.perf_counter()
        found = super().within_budget(deltas, metrics)
        self.seconds.append(time.perf_counter() - began)
        return found


class _Unlimited(_Timed):
    """As if there were no budgets."""

    def within_budget(self, deltas: pa.Table, metrics: Mapping[str, Metric]) -> pa.Table:  # noqa: ARG002
        return deltas


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="series.py", description=__doc__)
    parser.add_argument("--batches", type=int, default=25)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    work = workload.make(asked.batches * _BATCH)
    usual = work.batches(_BATCH)
    flood = [_flood(number) for number in range(3)]
    with Servers(with_kafka=False) as servers:
        print("postgres", servers.durability(), flush=True)
        for name, batches in (("usual names", usual), (f"{_NAMES:,} new names a batch", flood)):
            decoded = [decode_batches(batch, now=datetime.now(UTC), limits=Limits()) for batch in batches]
            for number in range(asked.repeat):
                for kind in (_Timed, _Unlimited):
                    _land(
                        servers, f"{name}, {'budgets' if kind is _Timed else 'none'}, {number}", decoded, kind
                    )
    return 0


def _flood(number: int) -> list[RawBatch]:
    """Every event type, symbol and strategy comes twice in the batch, and in no other."""
    now = datetime.now(UTC) - timedelta(minutes=1)
    values = []
    for at in range(_BATCH):
        name = f"{number}-{at % _NAMES}"
        properties = {
            "symbol": f"S{name}",
            "strategy_id": f"s{name}",
            "price": 10.5,
            "quantity": 2,
            "latency_ms": at / 7,
        }
        values.append(
            orjson.dumps(
                {
                    "event_type": "order.filled" if at < _NAMES else f"type.{name}",
                    "timestamp": (now + timedelta(microseconds=at)).isoformat(),
                    "properties": properties,
                }
            )
        )
    return [
        RawBatch(
            "flood", 0, [PlainMessage(value, number * _BATCH + at, 0) for at, value in enumerate(values)]
        )
    ]


def _land(servers: Servers, name: str, batches: Sequence[Decoded], kind: type[_Timed]) -> None:
    with servers.database() as conninfo:
        admission = kind(conninfo)
        lander = Lander(conninfo, name="landing-bench", admission=admission)
        owners: dict[tuple[str, int], Any] = {}
        seconds = []
        for decoded in batches:
            spans = []
            for batch in decoded.batches:
                key = (batch.source, batch.partition)
                first = batch.messages[0].offset()
                if key not in owners:
                    owners[key] = lander.claim(key, 0)
                spans.append(
                    Span(*key, first, first + len(batch.messages), len(batch.messages), owners[key].epoch)
                )
            began = time.perf_counter()
            lander.land(spans, decoded, lander.deltas_ahead(decoded))
            seconds.append(time.perf_counter() - began)
        lander.close()
        events = sum(decoded.events.num_rows for decoded in batches)
        with psycopg.connect(conninfo) as opened:
            [(deltas, delta_bytes, places, place_bytes)] = opened.execute(_SIZES).fetchall()
        told = (
            f"; of it budgets {sorted(admission.seconds)[len(seconds) // 2] * 1e3:.2f} ms a batch (median), "
            f"{max(admission.seconds) * 1e3:.1f} ms at most"
            if admission.seconds
            else ""
        )
        print(
            f"{name}: {events / sum(seconds):,.0f} events/s, {sum(seconds) / len(seconds) * 1e3:.0f} ms a batch{told};"
            f" {deltas:,} deltas, {delta_bytes / 1e6:.1f} MB; {places:,} places, {place_bytes / 1e6:.2f} MB",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
