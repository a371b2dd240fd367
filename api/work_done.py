"""What this API process has done since it began, for its own figures.

Belongs here: which series say so. Does not belong here: counting (`edge`), writing (`storage.system_metrics`).
"""

from analytics_pipeline.storage.system_metrics import Work
from analytics_pipeline.telemetry import HTTP_DURATION, HTTP_REQUESTS, of_this_process


def work_done() -> Work:
    """Requests; those answered with 5xx failed."""
    return Work(
        units=of_this_process(HTTP_REQUESTS, "_total"),
        failed=of_this_process(HTTP_REQUESTS, "_total", lambda labels: labels["status"].startswith("5")),
        timed=of_this_process(HTTP_DURATION, "_count"),
        seconds=of_this_process(HTTP_DURATION, "_sum"),
    )
