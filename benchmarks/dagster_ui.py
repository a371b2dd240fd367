"""How fast Dagster's pages load with years of partitions: `make bench-dagster`.

Starts a Postgres and a `dagster-webserver` of its own, whose hourly partitions begin two years ago and whose daily ones
ten, all of them materialized, and sends what the UI sends for a page (`dagster_ui.json`, taken from a browser), six at
a time, as browsers do. Prints a table and writes every figure to a JSON file. What is measured and how:
docs/benchmarks.md.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg
import httpx
import psycopg
from dagster import AssetKey, AssetMaterialization, DagsterInstance

from analytics_pipeline.defs.environment import dagster_environment
from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.settings import adopt, project_file, settings
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.dagster_schema import create_dagster_schema
from benchmarks import output
from benchmarks.costs import machine
from benchmarks.servers import Servers

CONNECTIONS = 6
"""That a browser opens to one host."""
LIMIT = 2.0
"""Seconds in which a page should be there."""
_START = 90.0
_RECORDED = json.loads(Path(__file__).with_suffix(".json").read_text())
_COPY = """
INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
SELECT run_id, replace(event, %(first)s, key), dagster_event_type, timestamp + number * interval '1 ms', step_key,
    asset_key, key
FROM event_logs, unnest(%(keys)s::text[]) WITH ORDINALITY AS part (key, number)
WHERE asset_key = %(asset)s AND partition = %(first)s AND number > 1
"""


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: dict[str, Any] = {"machine": machine(), "repeat": arguments.repeat}
    with Servers(with_kafka=False) as servers, servers.database() as conninfo:
        _use(servers, conninfo)
        found["partitions"] = _materialize_everything(conninfo)
        with _webserver(servers.folder) as url:
            first = {page: _load(url, page) for page in _RECORDED["pages"]}
        with _webserver(servers.folder) as url:
            restarted = {page: _load(url, page) for page in _RECORDED["pages"]}
            again = {page: [_load(url, page) for _ in range(arguments.repeat)] for page in _RECORDED["pages"]}
    found["pages"] = {
        page: {
            "first_ever": first[page],
            "first_after_restart": restarted[page],
            "again": again[page],
        }
        for page in _RECORDED["pages"]
    }
    output.conclude(arguments.json, found, _table(found))
    return 0


def _use(servers: Servers, conninfo: str) -> None:
    """Let this process and its children work on that database, in a Dagster home of their own."""
    home = servers.folder / "dagster"
    home.mkdir()
    shutil.copyfile(project_file("dagster.yaml"), home / "dagster.yaml")
    adopt(
        {
            "B25_DATABASE__URL": conninfo,
            "B25_LOCAL_STACK__STATE_FOLDER": str(servers.folder / "state"),
            "DAGSTER_HOME": str(home),
        }
    )
    settings.cache_clear()
    adopt(dagster_environment(settings()))
    with connection(conninfo, name="bench") as opened:
        create_dagster_schema(opened, settings().dagster.schema_name)


def _materialize_everything(conninfo: str) -> dict[str, int]:
    """One materialization of every partition of every level; the first is Dagster's own, the rest are its copies."""
    from analytics_pipeline.defs.rollups.specs import KEYS, level_tags
    from benchmarks.dagster_location import DAILY, HOURLY

    found: dict[str, int] = {}
    options = f"-csearch_path={settings().dagster.schema_name}"
    with (
        DagsterInstance.get() as instance,
        psycopg.connect(conninfo, options=options, autocommit=True) as opened,
    ):
        for level, key in KEYS.items():
            keys = (DAILY if level == "1d" else HOURLY).get_partition_keys()
            _report(instance, key, keys[0], level_tags(level))
            opened.execute(_COPY, {"first": keys[0], "keys": keys, "asset": key.to_string()})
            found[level] = len(keys)
        opened.execute("VACUUM ANALYZE event_logs")
    return found


def _report(instance: DagsterInstance, key: AssetKey, partition: str, tags: dict[str, str]) -> None:
    metadata = {"rows": 1000, "buckets": 60, "events": 100_000, "late": 10, "seconds": 0.5}
    instance.report_runless_asset_event(
        AssetMaterialization(key, partition=partition, metadata=metadata, tags=tags)
    )


@contextmanager
def _webserver(folder: Path) -> Iterator[str]:
    """The real one, ready; stopped afterwards."""
    port = free_port()
    program = str(Path(sys.executable).with_name("dagster-webserver"))
    arguments = ["-m", "benchmarks.dagster_location", "-h", "127.0.0.1", "-p", str(port)]
    with (folder / "webserver.log").open("a") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _START
        while not _is_ready(url):
            if time.monotonic() > deadline or process.poll() is not None:
                raise EnvironmentFault(f"dagster-webserver did not start: {log.name} says why")
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/server_info").status_code == 200
    except httpx.TransportError:
        return False


def _load(url: str, page: str) -> float:
    """Seconds until the last answer of a page."""

    def ask(client: httpx.Client, name: str, variables: dict[str, Any]) -> None:
        body = {"operationName": name, "variables": variables, "query": _RECORDED["queries"][name]}
        answer = client.post("/graphql", json=body).json()
        if "errors" in answer:
            raise EnvironmentFault(
                f"this Dagster ({dg.__version__}) does not understand {name} of {_RECORDED['dagster']}: take the "
                "queries anew from a browser"
            )

    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(CONNECTIONS) as threads:
        began = time.monotonic()
        for asked in [threads.submit(ask, client, *each) for each in _RECORDED["pages"][page]]:
            asked.result()
        return round(time.monotonic() - began, 3)


def _table(found: dict[str, Any]) -> str:
    lines = [
        f"{sum(found['partitions'].values()):,} materialized partitions: {found['partitions']}",
        f"{'seconds until the page has all answers':45} {'first ever':>10} {'restarted':>10} {'again':>8} {'worst':>8}",
    ]
    for page, each in found["pages"].items():
        again = each["again"]
        lines.append(
            f"{page:45} {each['first_ever']:10.2f} {each['first_after_restart']:10.2f} {median(again):8.2f} "
            f"{max(again):8.2f}{'  over the limit' if max(again) > LIMIT else ''}"
        )
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5, help="how often each page is loaded again")
    output.add_option(parser, "dagster")
    arguments = parser.parse_args()
    output.prepare(arguments.json)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
