"""Processes that do one run over what has landed: a merge, a recompute, a backfill; forked like those of landing.

Belongs here: what a run is, as the Dagster assets and the command line call it. Does not belong here: when one is
killed and what must be true afterwards (`test_run_kills`).
"""

import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from analytics_pipeline import failpoints
from analytics_pipeline.failpoints import Fault, RunPoint
from analytics_pipeline.storage import backfill, rollups
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.recompute import recompute_hour
from tests.chaos.forks import FORKS

_PATIENCE = 60


class Run(StrEnum):
    """Kinds of runs."""

    MERGE = "merge"
    RECOMPUTE = "recompute"
    BACKFILL = "backfill"


def carry_out(run: Run, conninfo: str, hours: Sequence[datetime]) -> int:
    """Do it to these hours; to how many it did something."""
    if run is Run.RECOMPUTE:
        return len([recompute_hour(conninfo, hour, run_id=run) for hour in hours])
    with connection(conninfo, name=run, autocommit=True) as opened:
        if run is Run.MERGE:
            merged = [rollups.merge_hour(opened, hour, run_id=run) for hour in hours]
            return len([one for one in merged if one is not None and one.batches])
        planned = backfill.plan(opened, hours)
        done = backfill.carry_out(opened, conninfo, planned, run_id=run, before_hour=lambda: None)
        return len(list(done))


def killed_at(
    point: RunPoint, passage: int, run: Run, conninfo: str, hours: Sequence[datetime], log: Path
) -> bool:
    """Let a process do it and end by SIGKILL at a moment; whether it was that which ended it."""
    fault = f"{point}:{Fault.KILL}:{passage}"
    process = FORKS.Process(target=_do, args=(fault, run, conninfo, list(hours), str(log)), daemon=True)
    process.start()
    process.join(_PATIENCE)
    assert process.exitcode is not None, f"it is still running:\n{log.read_text()[-3000:]}"
    return process.exitcode == -signal.SIGKILL


def _do(fault: str, run: Run, conninfo: str, hours: list[datetime], log: str) -> None:
    with Path(log).open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    failpoints.arm(fault)
    carry_out(run, conninfo, hours)
    sys.exit(0)
