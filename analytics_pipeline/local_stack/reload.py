"""Restarting the product's processes when their source changes: `make dev`.

Belongs here: noticing changes. Does not belong here: restarting (`supervisor`).
"""

import threading
from collections.abc import Callable

from analytics_pipeline.settings import project_file

RELOADED = ("ingest", "api", "dagster-code")
"""What runs the product's own code; Dagster's webserver and daemon ask the code server."""


def on_change(stop: threading.Event, restart: Callable[[], None]) -> None:
    """Call `restart` after each change of a source file, in a thread, until `stop`."""
    from watchfiles import PythonFilter, watch

    def run() -> None:
        folders = [project_file("analytics_pipeline"), project_file("api")]
        for _ in watch(*folders, stop_event=stop, watch_filter=PythonFilter(), raise_interrupt=False):
            restart()

    threading.Thread(target=run, name="reload", daemon=True).start()
