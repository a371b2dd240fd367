"""Listening to Postgres: posted events wake the inbox, changed definitions are loaded anew, and metrics with them."""

import threading
import time
from datetime import timedelta

import psycopg
import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.definitions import NO_DEFINITIONS, Definitions
from analytics_pipeline.ingest.backoff import Backoff
from analytics_pipeline.rollups.automatic import with_automatic
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog, Metric
from analytics_pipeline.storage import definitions, inbox, metric_versions, retired_metrics
from analytics_pipeline.storage.connection import Connection, connection
from analytics_pipeline.telemetry import DEFINITION_LOADS, DEFINITIONS_ACTIVE

_log = structlog.get_logger(__name__)

_LONGEST_WAIT = 0.5


class Listener:
    """Holds the snapshot of active definitions and their metrics, and wakes the inbox worker.

    Attributes:
        current: the definitions to judge the next batch by; replaced as a whole.
        catalog: the metrics of the next batch, those of the definitions included; replaced as a whole.
        woken: set when something was posted.
    """

    def __init__(
        self, conninfo: str, *, is_custom_enabled: bool, declare_every: timedelta = retired_metrics.PERIOD
    ) -> None:
        self._conninfo = conninfo
        self._is_custom_enabled = is_custom_enabled
        self.current: Definitions = NO_DEFINITIONS
        self.catalog: Catalog = BUILT_IN
        self.woken = threading.Event()
        self._registered: set[str] = set()
        self._declare_every = declare_every.total_seconds()

    def load(self, opened: Connection) -> None:
        """Read the active definitions, and register the metrics that this process has not registered yet.

        Args:
            opened: a connection in autocommit.

        Raises:
            psycopg.Error, EnvironmentFault: what was not done is done the next time.
        """
        if self._is_custom_enabled:
            self._load_definitions(opened)
        # After they are in use, so that this process lacks nothing. Each only once, so that a name means what the
        # process started last says, not what the one says that loads its definitions last.
        self._register(opened, [one for one in self.catalog.metrics if one.metric_id not in self._registered])
        self.declare(opened)

    def declare(self, opened: Connection) -> None:
        """Say that this process computes its metrics; what was retired, because it could not for long, is back."""
        retired = retired_metrics.declare(opened, self.catalog.by_id)
        self._register(opened, [self.catalog.by_id[metric_id] for metric_id in retired])

    def _register(self, opened: Connection, metrics: list[Metric]) -> None:
        names = metric_versions.register(opened, metrics)
        self._registered.update(metric.metric_id for metric in metrics)
        if names:
            _log.info("metrics registered", names=names)

    def _load_definitions(self, opened: Connection) -> None:
        found, problems = definitions.load_definitions(opened, self.current)
        for problem in problems:
            _log.error("a definition is left out", reason=problem)
        catalog, left_out = with_automatic(found.schemas)
        for problem in left_out:
            _log.warning("a property is not measured", reason=problem)
        if found.by_type.keys() or self.current.by_type:
            _log.info("definitions loaded", versions={d.name: d.version for d in found.by_type.values()})
        self.current = found
        if catalog.version != self.catalog.version:
            _log.info("catalog changed", version=catalog.version, automatic=len(catalog.automatic))
            self.catalog = catalog
        DEFINITION_LOADS.inc()
        DEFINITIONS_ACTIVE.set(len(found.by_type))

    def run(self, stop: threading.Event) -> None:
        """Listen until stopped; a lost connection is made again, and nothing is missed meanwhile."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                with connection(self._conninfo, name="listener", autocommit=True) as opened:
                    opened.execute(f"LISTEN {inbox.CHANNEL}")
                    opened.execute(f"LISTEN {definitions.CHANNEL}")
                    self.load(opened)
                    self.woken.set()
                    backoff.reset()
                    self._listen(opened, stop)
            except (EnvironmentFault, psycopg.Error) as error:
                _log.warning("not listening to Postgres", reason=type(error).__name__)
                stop.wait(backoff.next())

    def _listen(self, opened: Connection, stop: threading.Event) -> None:
        declared = time.monotonic()
        while not stop.is_set():
            if time.monotonic() - declared >= self._declare_every:
                declared = time.monotonic()
                self.declare(opened)
            channels = {note.channel for note in opened.notifies(timeout=_LONGEST_WAIT, stop_after=1)}
            if inbox.CHANNEL in channels:
                self.woken.set()
            if definitions.CHANNEL in channels:
                self.load(opened)
