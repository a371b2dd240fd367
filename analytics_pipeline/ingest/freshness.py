"""How fresh the partitions of one worker are: lag for the operator, `caught_up_at` for the state of buckets.

Belongs here: carrying Kafka's watermarks to the partitions, and writing down what idle ones have reached; a batch
carries its own note along. A failure here only makes things look older than they are.
"""

import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest import accounts
from analytics_pipeline.ingest.landings import Landings
from analytics_pipeline.ingest.ownership import Ownership
from analytics_pipeline.ingest.watermarks import WatermarkSource

_log = structlog.get_logger(__name__)


class Freshness:
    """Asked about once a second by the worker whose partitions these are."""

    def __init__(self, landings: Landings, ownership: Ownership, watermarks: WatermarkSource) -> None:
        self._landings = landings
        self._ownership = ownership
        self._watermarks = watermarks

    def note(self) -> None:
        """Take over the newest watermarks."""
        for owned in self._ownership:
            note = self._watermarks.latest(owned.key)
            if note is not None:
                owned.notes.add(note)
                accounts.lag(owned.key, note.high - owned.next_offset)

    def write(self) -> None:
        """Write down the times that idle partitions have reached: one statement for all of them."""
        idle = [owned for owned in self._ownership if not owned.has_work]
        reached = {owned: at for owned in idle if (at := owned.notes.reached(owned.next_offset)) is not None}
        try:
            if reached:
                self._landings.note_caught_up({owned.key: (owned.claim, at) for owned, at in reached.items()})
            self._ownership.look_at_stopped()
        except EnvironmentFault as error:
            _log.warning("freshness was not written down", reason=str(error))
            return
        for owned, at in reached.items():
            owned.notes.forget(at)
