"""The catalog in words: the page `docs/metrics-catalog.md`, and what the command line shows of one metric.

Belongs here: text that follows from declarations. Does not belong here: anything that a database knows, such as since
when a metric answers.
"""

from collections.abc import Iterable, Iterator

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Catalog, Kind, Metric

_ERROR = {
    Kind.VALUE: "exact; each value is rounded once, to 1e-9",
    Kind.QUANTILE: f"quantiles within {states.RELATIVE_ERROR * 100:g} %, the others exact",
    Kind.DISTINCT: f"exact up to {states.DISTINCT_SIZE:,} distinct values in a bucket, "
    f"±{100 / (states.DISTINCT_SIZE - 2) ** 0.5:.1f} % (1σ) above",
    Kind.ENDS: "exact; each value is rounded once, to 1e-9",
}
_HEAD = """\
# Catalog of metrics

Made by `make docs` from the declarations in `analytics_pipeline/rollups/catalog.py`; a test compares them.
[metrics.md](metrics.md) says how to read metrics. `analytics metrics list` lists those of a running system, with
the metrics of [custom events](metrics.md#metrics-of-custom-events) and since when each is complete.
"""


def facts(metric: Metric) -> dict[str, str]:
    """What a declaration says, beside name and description, in the words of people."""
    return {
        "unit": metric.unit,
        "events": ", ".join(metric.event_types) or "all",
        "value": value_of(metric),
        "group by": ", ".join(groups_of(metric)) or "–",
        "aggregations": ", ".join(metric.aggregations),
        "precision": precision_of(metric),
    }


def precision_of(metric: Metric) -> str:
    """How exact its numbers are."""
    return "exact" if metric.value is None and metric.property_name is None else _ERROR[metric.kind]


def value_of(metric: Metric) -> str:
    """What of an event is aggregated."""
    if metric.ratio is not None:
        return f"100 × {metric.ratio[0]} ÷ {metric.ratio[1]}"
    if metric.kind is Kind.DISTINCT:
        return f"distinct {metric.value}"
    return metric.value or metric.property_name or "the event itself"


def groups_of(metric: Metric) -> list[str]:
    """What may be grouped by, as `group_by` takes it."""
    return [",".join(dimensions) for dimensions in metric.dimension_sets if dimensions]


def page(catalog: Catalog) -> str:
    """The whole page, in Markdown."""
    return (
        "\n".join(
            (_HEAD, *_table(catalog.metrics), *(line for one in catalog.metrics for line in _section(one)))
        )
        + "\n"
    )


def _table(metrics: Iterable[Metric]) -> Iterator[str]:
    yield "| metric | unit | events | group by | aggregations (default first) |"
    yield "|---|---|---|---|---|"
    for one in metrics:
        yield _row(
            f"[`{one.name}`](#{one.name.replace('.', '')})",
            one.unit,
            _code(one.event_types) or "all",
            _code(groups_of(one)) or "–",
            _code(one.aggregations),
        )


def _section(metric: Metric) -> Iterator[str]:
    yield from ("", f"## {metric.name}", "", metric.description.replace("<", r"\<"), "", "| | |", "|---|---|")
    shown = facts(metric) | {
        "events": _code(metric.event_types) or "all",
        "group by": _code(groups_of(metric)) or "–",
        "aggregations": _code(metric.aggregations),
    }
    for name, text in shown.items():
        yield _row(name, _code([text]) if name == "value" and metric.value is not None else text)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
