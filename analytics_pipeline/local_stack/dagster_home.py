"""Dagster's home folder and its tables, before any of its processes starts.

Several processes of Dagster that find no tables create them at once and stumble over each other; so one short
command makes them first, and brings those of an older Dagster up to date.

Belongs here: DAGSTER_HOME. Does not belong here: `dagster.yaml` itself, and the processes (`applications`).
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from analytics_pipeline.defs.environment import dagster_environment
from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack.addresses import Listener
from analytics_pipeline.settings import Settings, environment, project_file

_NOTE = "tables"


def write_home(home: Path, code: Listener) -> None:
    """Write Dagster's own settings, and a workspace with one code server, watched like every other process."""
    shutil.copyfile(project_file("dagster.yaml"), home / "dagster.yaml")
    (home / "workspace.yaml").write_text(
        f"load_from:\n  - grpc_server:\n      host: {code.host}\n      port: {code.port}\n"
        "      location_name: analytics\n"
    )


def create_tables_once(settings: Settings, home: Path) -> None:
    """`create_tables`, unless this Dagster has done it for this database from this home.

    Raises:
        EnvironmentFault: see `create_tables`.
    """
    database = f"{settings.database.conninfo()} {settings.dagster.schema_name}"
    done = f"{version('dagster')} {hashlib.sha256(database.encode()).hexdigest()}"
    note = home / _NOTE
    if not note.exists() or note.read_text() != done:
        create_tables(settings)
        note.write_text(done)


def create_tables(settings: Settings) -> None:
    """Create or migrate Dagster's tables; takes a few seconds, is safe to repeat.

    Raises:
        EnvironmentFault: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="b25-dagster-") as home:
        shutil.copyfile(project_file("dagster.yaml"), Path(home) / "dagster.yaml")
        result = subprocess.run(
            [sys.executable, "-m", "dagster", "instance", "migrate"],
            env={**environment(), **dagster_environment(settings), "DAGSTER_HOME": home},
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        lines = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        raise EnvironmentFault(f"Dagster's tables could not be made: {lines[-1] if lines else 'no output'}")
