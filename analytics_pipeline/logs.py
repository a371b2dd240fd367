"""Structured logs: one event a line, on stderr, with key=value pairs, JSON, or colours for people.

Belongs here: how lines look. Does not belong here: what is logged; never payloads, never secrets.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from analytics_pipeline.settings import Logging

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.UnicodeDecoder(),
]


def configure(logging_settings: Logging, *, service: str) -> None:
    """Set up structlog and the standard library's logging alike, for this process.

    Args:
        logging_settings: level and format.
        service: name of the process, on every line.
    """

    def add_service(
        _logger: object, _method: str, line: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        line.setdefault("service", service)
        return line

    shared = [*_SHARED, add_service]
    level = logging.getLevelName(logging_settings.level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(logging_settings.format),
            ],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)


def _renderers(name: str) -> list[structlog.typing.Processor]:
    if name == "console":
        shown = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [shown]
    if name == "json":
        # Without the values of variables: a request's headers are among them, and so is a key.
        frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "service", "event"], sort_keys=True
        ),
    ]
