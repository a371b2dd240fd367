"""The table that `make bench-api` prints."""

from typing import Any

from benchmarks.report import DISTURBED_FROM


def table(found: dict[str, Any]) -> str:
    """What is printed at the end."""
    settings, data = found["settings"], found["data"]
    lines = [
        "",
        f"{settings['days']} days of rollups, {settings['raw_days']} of events, {settings['rate']:g} events/s,"
        f" {data['megabytes']:,} MB; open minute at {settings['open_rate']:,} events/s",
        f"load: {settings['client']}, one thread, {settings['seconds']:g} s each",
    ]
    for run in found["runs"]:
        lines += ["", f"{run['variant']}, {run['workers']} worker{'s' if run['workers'] > 1 else ''}"]
        lines.append(
            f"{'':34}{'c':>4}{'requests/s':>12}{'first ms':>10}{'p50 ms':>9}{'p99 ms':>9}"
            "   CPU µs a request: API, Postgres, client"
        )
        for name, figures in run["cases"].items():
            lines += [_line(name, connections, one) for connections, one in figures.items()]
    lines += ["", "Goals:"]
    lines += [f"- {_goal(one)}" for one in found["goals"]]
    lines += ["", "In the words of the original's description:", f"- {_seed_line(found)}"]
    if reasons := _reasons(found):
        lines += ["", "NOT QUOTABLE: " + "; ".join(reasons)]
    return "\n".join(lines)


def judged(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each goal beside what was reached; of several runs that it holds for, each by itself."""
    found = []
    for run in runs:
        for name, figures in run["cases"].items():
            goal = run["goals"].get(name)
            if goal is None:
                continue
            reached = figures.get(str(goal["connections"]), {"no_figure": "it was not asked"})
            is_reached = (
                "no_figure" not in reached
                and reached["p99_ms"] <= goal["p99_ms"]
                and reached["requests_per_second"] >= goal["requests_per_second"]
            )
            case = f"{name}, {run['variant']}, {run['workers']} workers"
            found.append({"case": case, **goal, "reached": reached, "is_reached": is_reached})
    return found


def _line(name: str, connections: str, one: dict[str, Any]) -> str:
    if "no_figure" in one:
        return f"{name:34}{connections:>4}   no figure: {one['no_figure']}"
    cpu = one["cpu_us_per_request"]
    costs = "".join(f"{cpu.get(part, 0):>8,}" for part in ("api", "postgres", "client"))
    mark = " *" if one["cores_elsewhere"] >= DISTURBED_FROM else ""
    return (
        f"{name:34}{connections:>4}{one['requests_per_second']:>12,}{one['first_ms']:>10.2f}{one['p50_ms']:>9.2f}{one['p99_ms']:>9.2f}{costs}"
        f"{mark}"
    )


def _goal(one: dict[str, Any]) -> str:
    wanted = f"p99 ≤ {one['p99_ms']:g} ms at c = {one['connections']}"
    if one["requests_per_second"]:
        wanted = f"≥ {one['requests_per_second']:,} requests/s, {wanted}"
    reached = one["reached"]
    if "no_figure" in reached:
        return f"{one['case']}: {wanted}: no figure"
    verdict = "reached" if one["is_reached"] else "MISSED"
    return (
        f"{one['case']}: {wanted}: {verdict}, {reached['requests_per_second']:,}, {reached['p99_ms']:.2f} ms"
    )


def _seed_line(found: dict[str, Any]) -> str:
    for run in found["runs"]:
        for connections, one in run["cases"].get("metrics", {}).items():
            if run["variant"] == "anonymous" and connections != "1" and "no_figure" not in one:
                return (
                    f"Query Latency: {one['p99_ms']:.1f}ms for aggregated metrics (cached) (it says <100ms),"
                    f" p99 of {connections} connections"
                )
    return "Query Latency: no figure for aggregated metrics (cached)"


def _reasons(found: dict[str, Any]) -> list[str]:
    reasons = ["a short run for trying"] if found["settings"]["quick"] else []
    figures = [one for run in found["runs"] for each in run["cases"].values() for one in each.values()]
    if any(one.get("cores_elsewhere", 0) >= DISTURBED_FROM for one in figures):
        reasons.append(f"other programs used {DISTURBED_FROM:g} cores or more during figures marked *")
    return reasons
