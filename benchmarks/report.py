"""The figures of some runs as one: medians, ratios, and the table that is printed."""

from collections.abc import Sequence
from statistics import median
from typing import Any

DISTURBED_FROM = 0.1
"""Cores used by other programs, from which on a figure is marked."""


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the runs, the largest memory, and each run."""
    names = runs[0]["cpu_seconds_per_million"]
    found: dict[str, Any] = {
        "events_per_second": round(median(run["events_per_second"] for run in runs)),
        "cpu_seconds_per_million": {
            name: round(median(run["cpu_seconds_per_million"][name] for run in runs), 2) for name in names
        },
        "cores_elsewhere": max(run["cores_elsewhere"] for run in runs),
        "is_disturbed": any(run["cores_elsewhere"] >= DISTURBED_FROM for run in runs),
        "runs": list(runs),
    }
    if "peak_rss_mb" in runs[0]:
        found["peak_rss_mb"] = max(run["peak_rss_mb"] for run in runs)
    return found


def compare(consumed: Sequence[dict[str, Any]], copied: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Consumer against ceiling: the ratio of the medians, and of each pair of neighbours.

    None where other programs were at work: they never disturb both alike, so that such a ratio says nothing.
    """
    ours, best = summary(consumed), summary(copied)
    is_disturbed = ours["is_disturbed"] or best["is_disturbed"]
    return {
        "consumer": ours,
        "ceiling": best,
        "ratio": None if is_disturbed else round(ours["events_per_second"] / best["events_per_second"], 3),
        "ratios": [
            None
            if _is_disturbed([one, other])
            else round(one["events_per_second"] / other["events_per_second"], 3)
            for one, other in zip(consumed, copied, strict=True)
        ],
    }


def against(runs: Sequence[dict[str, Any]], clean: dict[str, Any]) -> dict[str, Any]:
    """Runs with faults against the clean consumer: `cost` is the share of its speed that is lost."""
    found = summary(runs)
    is_disturbed = found["is_disturbed"] or clean["is_disturbed"]
    cost = round(1 - found["events_per_second"] / clean["events_per_second"], 3)
    return found | {"cost": None if is_disturbed else cost}


def table(found: dict[str, Any]) -> str:
    """What is printed at the end."""
    settings, main = found["settings"], found["main"]
    lines = [
        "",
        f"{settings['events']:,} events of {settings['mean_bytes']:g} bytes, {settings['partitions']} partitions, seed"
        f" {settings['seed']}, fsync {settings['postgres']['fsync']}, median of {settings['repeat']}",
        "",
        f"{'':26}{'events/s':>10}{'ceiling':>10}{'ratio':>7}   CPU s per million: ingest, Postgres, Kafka;"
        " RSS; cores elsewhere",
        _line(f"{settings['workers']} × {settings['batch_size']:,}", main),
    ]
    lines += [_line(f"batches of {int(size):,}", one) for size, one in found.get("batch_sizes", {}).items()]
    lines += [_line(f"{count} connections", one) for count, one in found.get("connections", {}).items()]
    lines += [
        f"{name if ' ' in name else f'1 % {name}':26}{one['events_per_second']:>10,}{'':10}{'':7}  "
        + (" no cost *" if one["cost"] is None else f" costs {one['cost']:.0%} of the clean run's speed")
        for name, one in found.get("faults", {}).items()
    ]
    if "backlog" in found:
        one = found["backlog"]
        lines.append(
            f"{'backlog of {:,}'.format(one['events']):26}{one['events_per_second']:>10,}{'':20}RSS"
            f" {one['peak_rss_mb']} MB at most"
        )
    for one in found.get("freshness", []):
        lines.append(
            f"produce → visible at {one['rate']:,} events/s: SQL p50 {one['sql_ms']['p50']} ms, p99"
            f" {one['sql_ms']['p99']} ms; API p50 {one['api_ms']['p50']} ms, p99 {one['api_ms']['p99']} ms"
            + (" *" if one["cores_elsewhere"] >= DISTURBED_FROM else "")
        )
    lines += ["", "In the words of the original's description:"]
    per_worker = main["consumer"]["events_per_second"] / settings["workers"]
    lines.append(
        f"- Event Ingestion: {per_worker:,.0f} events/second per worker (it says 10,000+),"
        f" {settings['workers']} workers, {settings['batch_size']:,} events per batch"
    )
    if "seed_lines" in found:
        one = found["seed_lines"]["consumer"]
        lines.append(
            f"- Batch Processing: 1000 events per batch: {one['events_per_second']:,} events/second with one worker"
            f"{_mark(one)}"
        )
    if settings["quick"] or _is_disturbed(found):
        lines += ["", "NOT QUOTABLE: " + _reasons(found)]
    return "\n".join(lines)


def _line(name: str, one: dict[str, Any]) -> str:
    ours = one["consumer"]
    cpu = "  ".join(
        f"{ours['cpu_seconds_per_million'][part]:6.2f}" for part in ("ingest", "postgres", "kafka")
    )
    ratio = "none" if one["ratio"] is None else f"{one['ratio']:.2f}"
    return (
        f"{name:26}{ours['events_per_second']:>10,}{one['ceiling']['events_per_second']:>10,}{ratio:>7}"
        f"   {cpu}  {ours['peak_rss_mb']} MB  {ours['cores_elsewhere']:.1f} and"
        f" {one['ceiling']['cores_elsewhere']:.1f}{_mark(ours, one['ceiling'])}"
    )


def _mark(*summaries: dict[str, Any]) -> str:
    return " *" if any(one["is_disturbed"] for one in summaries) else ""


def _is_disturbed(found: Any) -> bool:
    if isinstance(found, dict):
        is_so = found.get("is_disturbed") is True or found.get("cores_elsewhere", 0) >= DISTURBED_FROM
        return is_so or any(map(_is_disturbed, found.values()))
    return isinstance(found, list) and any(map(_is_disturbed, found))


def _reasons(found: dict[str, Any]) -> str:
    reasons = []
    if found["settings"]["quick"]:
        reasons.append("a short run for trying")
    if _is_disturbed(found):
        reasons.append(f"other programs used {DISTURBED_FROM:g} cores or more during figures marked *")
    return "; ".join(reasons)
