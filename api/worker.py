"""What granian starts in each worker process.

Belongs here: the order of things in a fresh process. Does not belong here: the application (`app`).

Nothing heavy is imported before `load`: prometheus_client decides at import whether its values live in files that
all processes share, so the folder has to be in the environment first.
"""

import gc
import os
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from analytics_pipeline.settings import SHARED_FOLDER, Settings


def load(settings: Settings, metrics_folder: Path, stopping: Event) -> Any:
    """Make the ASGI application of this process; `stopping` is set when the server was asked to stop."""
    os.environ[SHARED_FOLDER] = str(metrics_folder)  # noqa: TID251 - prometheus_client reads it
    from analytics_pipeline import logs
    from api.app import create_app

    logs.configure(settings.logging, service="api")
    app = create_app(settings, is_stopping=stopping.is_set)
    _tune_collector()
    return app


def _tune_collector() -> None:
    """For answers of thousands of points, which are in no cycles.

    A full collection looks at all that was imported, for some 50 ms in which nothing is answered, and the points of
    one answer are enough to set one off.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
