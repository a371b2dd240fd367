"""The page `docs/series.md`: every Prometheus series with its labels and its help."""

from collections.abc import Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from analytics_pipeline import telemetry
from documentation.markdown import code, table

_HEAD = """\
# Prometheus series

Made by `make docs` from `analytics_pipeline/telemetry.py`. One endpoint serves all processes of a machine:
<http://localhost:9098/metrics>. A gauge of a process that has ended, killed or not, is gone at the next
scrape; counters stay.

A histogram has `_bucket`, `_sum` and `_count` behind its name. [Watching it](watching.md) says which of them to watch,
`deploy/prometheus/alerts.yml` has rules.

"""


def registered() -> Iterator[tuple[str, MetricWrapperBase]]:
    """Name and series, as Prometheus sees the name, in the order of their declaration."""
    for one in vars(telemetry).values():
        if isinstance(one, MetricWrapperBase):
            yield one._name + ("_total" if isinstance(one, Counter) else ""), one


def page() -> str:
    """The whole page."""
    rows = (
        (code(name), _kind(one), ", ".join(map(code, one._labelnames)) or "–", one._documentation.rstrip("."))
        for name, one in registered()
    )
    return _HEAD + "\n".join(table(("series", "kind", "labels", "meaning"), rows)) + "\n"


def _kind(series: MetricWrapperBase) -> str:
    match series:
        case Counter():
            return "counter"
        case Histogram():
            return "histogram"
        case _:
            return "gauge"
