"""The processes of the product itself, as the stack runs them: ingest, API, Dagster, simulator.

Belongs here: their commands, when each is ready, and the order in which all stop.
Does not belong here: the embedded servers (`postgres`, `kafka`, `redis`).
"""

import subprocess
import sys
import time
from pathlib import Path

from analytics_pipeline.local_stack import probes
from analytics_pipeline.local_stack.addresses import Listener
from analytics_pipeline.local_stack.dagster_home import write_home
from analytics_pipeline.local_stack.orphaned_runs import fail_runs_later, orphaned_runs
from analytics_pipeline.local_stack.plan import Plan
from analytics_pipeline.local_stack.service import Say, Service
from analytics_pipeline.settings import SHARED_FOLDER, environment

STOP_ORDER = (
    ("simulator", "history"),
    ("api", "dagster-webserver", "dagster-daemon"),
    ("dagster-code", "ingest"),
    ("kafka", "redis"),
    ("postgres",),
)
"""Producers first, and each server after everything that writes to it."""

_READY_TIMEOUT = 120.0
_DAGSTER_STOPS_WITHIN = 10.0  # a run that is cut off rolls back, and the next one does its work


def ingest(plan: Plan, partitions: int) -> Service:
    """Starts once Kafka and the database are ready; `partitions`: of all topics together."""
    topics = plan.settings.kafka.topics if plan.settings.kafka.enabled else []
    return Service(
        "ingest",
        _analytics("ingest"),
        Path.cwd(),
        _environment(plan),
        is_ready=probes.landing(plan.resolved.database.conninfo(), topics, partitions),
        ready_timeout=_READY_TIMEOUT,
    )


def api_and_dagster(plan: Plan) -> list[Service]:
    """What starts once the database is ready."""
    code, web = plan.listeners["local_stack.dagster_code_port"], plan.listeners["dagster.port"]
    workspace = ["-w", str((plan.folder.dagster / "workspace.yaml").resolve())]
    environment = _environment(plan)
    # Dagster's runs would each leave files in the folder of the series that nobody removes; what is worth telling
    # of Dagster, ingest reads in its tables.
    of_dagster = {name: value for name, value in environment.items() if name != SHARED_FOLDER}

    prepared_at = [0.0]

    def prepare_dagster(_: Say) -> None:
        prepared_at[0] = time.time()  # heartbeats of an earlier daemon are older
        write_home(plan.folder.dagster, code)

    orphans: list[str] = []
    marking: list[subprocess.Popen[bytes]] = []  # kept, so that nobody warns of it; it ends by itself

    def prepare_code_server(say: Say) -> None:
        prepare_dagster(say)
        orphans[:] = orphaned_runs(plan.resolved)
        if orphans:
            say("runs ended with the last code server: they are marked so once this one is there")

    def mark_orphans() -> None:
        if orphans:
            marking[:] = [fail_runs_later(orphans, of_dagster)]
            orphans.clear()

    return [
        Service(
            "api",
            _analytics("api"),
            Path.cwd(),
            environment,
            is_ready=probes.http_ok(*_reach(plan.listeners["server.port"]), "/ready"),
            ready_timeout=_READY_TIMEOUT,
            stop_timeout=plan.settings.server.shutdown_timeout.total_seconds() + 10,
        ),
        Service(
            "dagster-code",
            [
                *_module("dagster", "api", "grpc", "--module-name", "analytics_pipeline.definitions"),
                *("--host", code.host, "--port", str(code.port), "--location-name", "analytics"),
            ],
            Path.cwd(),
            of_dagster,
            prepare=prepare_code_server,
            is_ready=probes.answers(*_reach(code)),
            once_ready=mark_orphans,
            ready_timeout=_READY_TIMEOUT,
            stop_timeout=_DAGSTER_STOPS_WITHIN,
        ),
        Service(
            "dagster-webserver",
            [*_module("dagster_webserver", "--host", web.host, "--port", str(web.port)), *workspace],
            Path.cwd(),
            of_dagster,
            prepare=prepare_dagster,
            is_ready=probes.dagster_location(*_reach(web)),
            ready_timeout=_READY_TIMEOUT,
            stop_timeout=_DAGSTER_STOPS_WITHIN,
        ),
        Service(
            "dagster-daemon",
            [*_module("dagster._daemon", "run"), *workspace],
            Path.cwd(),
            of_dagster,
            prepare=prepare_dagster,
            is_ready=probes.dagster_daemons(*_reach(web), lambda: prepared_at[0]),
            ready_timeout=_READY_TIMEOUT,
            stop_timeout=_DAGSTER_STOPS_WITHIN,
        ),
    ]


def simulator(plan: Plan) -> Service:
    """Sends events for as long as it runs."""
    return Service("simulator", _analytics("simulate"), Path.cwd(), _environment(plan))


def history(plan: Plan, until: str) -> Service:
    """Runs once, before the simulator: a day of the past up to `until`, so that the first view isn't empty."""
    return Service(
        "history", _analytics("simulate", "--history-until", until), Path.cwd(), _environment(plan)
    )


def _environment(plan: Plan) -> dict[str, str]:
    copied = {"B25_CONFIG": str(plan.folder.config.resolve())}  # see `configuration`
    return {**environment(), **plan.variables(), **copied, "PYTHONUNBUFFERED": "1"}


def _analytics(*arguments: str) -> list[str]:
    return _module("analytics_pipeline", *arguments)


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def _reach(listener: Listener) -> tuple[str, int]:
    host, _, port = listener.address.rpartition(":")
    return host.strip("[]"), int(port)
