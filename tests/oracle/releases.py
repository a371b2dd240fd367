"""Releases whose processes run side by side, and what their landings leave out, as a test knows it.

Belongs here: which catalogs have been started, and in which hours a recompute may find something new. Does not belong
here: what a point says of that (`edits`, from the product's own tables).
"""

from collections.abc import Collection, Iterable
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID, Catalog
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.recompute import RecomputeResult
from tests.oracle import edits
from tests.oracle.edits import EDITED

CATALOGS = (BUILT_IN, EDITED)
_METRICS = BUILT_IN.by_id | EDITED.by_id
_Place = tuple[str, datetime]


def every_id(catalogs: Iterable[Catalog]) -> set[str]:
    """The metrics of any of these."""
    return {metric_id for catalog in catalogs for metric_id in catalog.by_id}


class Releases:
    """`started` holds the catalog of each ingest process in order; any of them may still run.

    `missed` are metrics, by id, and hours: some landing there may have left them out. `standing` are those that one
    did leave out while they were in force, so there is a gap until a recompute of that metric and hour; `closed` are
    those that a recompute has done since. What a recompute was not asked for stands.
    """

    def __init__(self) -> None:
        self.started: list[Catalog] = []
        self.missed: set[_Place] = set()
        self.standing: set[_Place] = set()
        self.closed: set[_Place] = set()

    @property
    def known(self) -> list[Catalog]:
        """Each once."""
        return list(dict.fromkeys(self.started))

    @property
    def next(self) -> Catalog:
        """The one that a person deploys now: the edits, or back."""
        return CATALOGS[self.started[-1] is BUILT_IN]

    def start(self, main: Connection, catalog: Catalog) -> None:
        """A process has started, unless it ended before its metrics were registered."""
        if edits.is_in_force(main, catalog):
            self.started.append(catalog)

    def note_landed(self, catalog: Catalog, events: pa.Table) -> None:
        """A landing by this catalog may have stored these."""
        hours = set(pc.floor_temporal(events.column("timestamp"), unit="hour").to_pylist())
        lacking = every_id(CATALOGS) - catalog.by_id.keys()
        self.missed |= {(metric_id, hour) for metric_id in lacking for hour in hours}
        self.closed -= self.missed

    def note_stored(self, main: Connection, catalog: Catalog, stored: Iterable[tuple[str, datetime]]) -> None:
        """A landing by this catalog has stored events of these types and hours."""
        lacking = [_METRICS[metric_id] for metric_id in edits.in_force(main) - catalog.by_id.keys()]
        self.standing |= {
            (metric.metric_id, hour)
            for event_type, hour in stored
            for metric in lacking
            if not metric.event_types or event_type in metric.event_types
        }

    def note_asked(
        self, hours: Iterable[datetime], catalog: Catalog, metrics: Collection[str] | None
    ) -> None:
        """A recompute that writes begins, and may end in the middle."""
        ids = catalog.by_id if metrics is None else metrics
        self.standing -= {(metric_id, hour) for metric_id in ids for hour in hours}

    def wrong_gaps(self, main: Connection) -> tuple[set[_Place], set[_Place]]:
        """Which gaps are gone that nobody closed, and which are there although somebody did."""
        gaps = set(main.execute("SELECT metric_id, hour FROM metric_gaps").fetchall())
        return self.standing - gaps, self.closed & gaps

    def note_recomputed(
        self, results: Iterable[RecomputeResult], catalog: Catalog, metrics: Collection[str] | None
    ) -> None:
        """Only what a landing left out may differ from what was served; another definition says something else.

        A day differs where one of its hours did, and is compared with the last of them.
        """
        missed_hours = set(self.missed)
        missed_days = {(metric_id, hour.replace(hour=0)) for metric_id, hour in missed_hours}
        for done in results:
            for difference in done.differences:
                selection = catalog.resolve(difference.metric_name)
                metric_id = selection.metric.metric_id if selection else REGISTER_ID
                if metric_id in done.unserved:
                    continue
                is_day = difference.interval == "1d"
                may_differ = (
                    (metric_id, difference.time_bucket) in missed_days
                    if is_day
                    else (metric_id, done.hour) in missed_hours
                )
                assert may_differ, f"a recompute finds another number than was served: {difference}"
            if done.is_written:
                ids = catalog.by_id if metrics is None else metrics
                places = {(metric_id, done.hour) for metric_id in ids}
                self.missed -= places
                self.closed |= places

    def missed_of(self, catalog: Catalog) -> dict[datetime, set[str]]:
        """By hour, which of its metrics."""
        found: dict[datetime, set[str]] = {}
        for metric_id, hour in self.missed:
            if metric_id in catalog.by_id:
                found.setdefault(hour, set()).add(metric_id)
        return found

    def complete(self) -> set[str]:
        """The metrics of all that have started, and the register, that are nowhere left out."""
        return {*every_id(self.started), REGISTER_ID} - {metric_id for metric_id, _ in self.missed}
