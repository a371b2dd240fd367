"""The table that `make bench-rollup` prints."""

from typing import Any

from benchmarks import recomputing
from benchmarks.report import DISTURBED_FROM

_GOALS = {"times_plain_sql": 2.0, "of_bare_read": 0.6, "merge_spread": 3.0, "merge_seconds": 1.0}


def table(found: dict[str, Any]) -> str:
    """What is printed at the end; parts that were left out are not there."""
    lines = [""]
    for part, render in _PARTS.items():
        if part in found:
            lines += [*render(found[part]), ""]
    if found["settings"]["quick"]:
        lines.append("NOT QUOTABLE: a short run for trying")
    return "\n".join(lines)


def _recompute(found: dict[str, Any]) -> list[str]:
    lines = [
        f"{found['events']:,} events of an hour at 10,000 events/s ({found['events_table_mb']:,} MB), medians"
    ]
    lines.append(
        f"{'':12}{'seconds':>9}{'events/s':>12}{'CPU s':>8}{'Postgres':>10}{'RSS':>9}  cores elsewhere"
    )
    for name in recomputing.RUNS:
        one = found[name]
        own = f"{one['cpu_seconds']:.2f}" if "cpu_seconds" in one else ""
        rss = f"{one['peak_rss_mb']:.0f} MB" if "peak_rss_mb" in one else ""
        mark = " *" if one["cores_elsewhere"] >= DISTURBED_FROM else ""
        lines.append(
            f"{name:12}{one['seconds']:>9.2f}{one['events_per_second']:>12,}{own:>8}{one['postgres_cpu_seconds']:>10.2f}"
            f"{rss:>9}  {one['cores_elsewhere']:.1f}{mark}"
        )
    times, share = found["times_plain_sql"], found["of_bare_read"]
    lines += [
        f"{times:.2f} × plain SQL (goal ≥ {_GOALS['times_plain_sql']:g}), {share:.2f} of the bare read"
        f" (goal ≥ {_GOALS['of_bare_read']:g}); {found['times_tuned_sql']:.2f} × tuned SQL",
        f"of the CPU of plain SQL {found['cpu_of_plain_sql']:.2f}, of tuned SQL {found['cpu_of_tuned_sql']:.2f}",
    ]
    return lines


def _memory(found: dict[str, Any]) -> list[str]:
    lines = ["recompute of an hour as it fills: events of the hour, events/s, the most memory of the process"]
    return lines + [
        f"{int(events):>11,} events{one['events_per_second']:>10,}{one['peak_rss_mb']:>8} MB"
        for events, one in found.items()
    ]


def _merge(found: dict[str, Any]) -> list[str]:
    lines = [
        f"live merge of a minute, mean of {found['minutes']}: CPU s of the process, of Postgres, both; deltas; WAL"
    ]
    lines += [
        f"{int(rate):>8,} events/s {_cpu(one)}{one['deltas']:>9,}{one['wal_mb']:>8} MB"
        for rate, one in found["rates"].items()
    ]
    lines.append(
        f"the dearest costs {found['most_to_least']} × the cheapest (goal ≤ {_GOALS['merge_spread']:g}); goal a minute"
        f" ≤ {_GOALS['merge_seconds']:g} s"
    )
    return lines


def _late(found: dict[str, Any]) -> list[str]:
    lines = [
        "one late event, landed and merged into a final hour: CPU s of the process, of Postgres, both; ms by the clock"
    ]
    return lines + [
        f"{name:>17} {_cpu(one)}{one['median_seconds'] * 1000:>9.0f}" for name, one in found.items()
    ]


def _day(found: dict[str, Any]) -> list[str]:
    lines = ["1d rows of all series from their 24 hours: CPU s of the process, of Postgres, both; series"]
    return lines + [
        f"{int(count):>11,} events {_cpu(one)}{one['series']:>9,}" for count, one in found.items()
    ]


def _size(found: dict[str, Any]) -> list[str]:
    wal, rate = found["wal_mb"], found["events_per_second"]
    lines = [
        f"{found['hours']} simulated hours, {found['events']:,} events ({rate:g} a second), a merge a"
        f" minute: WAL {wal['landings']:,} MB by landings, {wal['merges']:,} MB by merges"
    ]
    lines += [
        f"{name:>26}{one['table']:>10,.1f} MB, indexes {one['indexes']:,.1f} MB"
        for name, one in found["tables_mb"].items()
    ]
    return lines


def _cpu(one: dict[str, Any]) -> str:
    return f"{one['process_cpu_seconds']:>8.3f}{one['postgres_cpu_seconds']:>8.3f}{one['cpu_seconds']:>8.3f}"


_PARTS = {
    "recompute": _recompute,
    "memory": _memory,
    "merge": _merge,
    "late": _late,
    "day": _day,
    "size": _size,
}
