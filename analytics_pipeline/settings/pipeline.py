"""What happens to events: landing, rollups, retention, reads, and Dagster."""

import re
from datetime import timedelta
from itertools import pairwise
from typing import Self, get_args

from pydantic import Field, field_validator, model_validator

from analytics_pipeline.settings.values import (
    Duration,
    DurationsByLevel,
    Kept,
    Level,
    Port,
    Section,
    TextList,
)

_MARTS_OF_EVENTS = (
    "order_analytics",
    "user_behavior",
    "market_analytics",
    "market_analytics_coarse",
    "strategy_performance",
)


class Ingestion(Section):
    """Landing: rows per transaction, longest wait, landing connections, rows in memory."""

    batch_size: int = Field(default=20_000, ge=1, le=200_000)
    """Most rows per transaction."""
    batch_timeout: Duration = timedelta(milliseconds=200)
    """Longest wait for a batch to fill."""
    workers: int = Field(default=2, ge=1, le=64)
    """Landing connections per ingest process."""
    buffer_size: int = Field(default=100_000, ge=1)
    """Rows in memory per ingest process. Large ones wait in Kafka sooner: a worker holds about 128 MiB of
    messages, and lands 32 MiB in a transaction."""
    max_future_skew: Duration = timedelta(minutes=5)
    """Further ahead an event is `too_far_in_future`."""
    strict: bool = False
    """Unknown top-level fields make a dead letter."""
    max_properties: int = Field(default=50, ge=1)
    """Keys of `properties`."""
    max_property_bytes: int = Field(default=1024, ge=16)
    """Bytes of each name and value in `properties`."""
    dead_letter_ratio: float = Field(default=0.5, gt=0, le=1)
    """A partition with a larger share of dead letters stops, loudly."""
    dead_letter_consecutive: int = Field(default=10_000, ge=1)
    """So does one with this many in a row."""
    inbox_poll: Duration = timedelta(milliseconds=250)
    """The inbox is looked at this often, also without a notification."""
    stall_timeout: Duration = timedelta(seconds=30)
    """A partition that stands still for so long although Kafka holds more is reported, and read by a new
    consumer."""
    inbox_limit: int = Field(default=500_000, ge=1)
    """Posted events that may wait to be landed; above it, POST answers 503."""


class Aggregation(Section):
    """Rollups; `grace` is how long after its end a bucket waits for late events before it is final, and
    `retire_metrics_after` how long nobody declares a metric before it ends."""

    enabled: bool = True
    """Accepted for the original's files; unused."""
    intervals: TextList = Field(default=["1m", "5m", "15m", "1h", "1d"])
    """Accepted for the original's files; all five are always kept."""
    workers: int = Field(default=2, ge=1)
    """Accepted for the original's files; unused."""
    batch_size: int = Field(default=10_000, ge=1)
    """Accepted for the original's files; unused."""
    grace: Duration = timedelta(seconds=30)
    """An event that reaches its source later than this after its minute is late; buckets wait as long
    before they are final."""
    grace_by_interval: DurationsByLevel = Field(default={})
    """Buckets of these intervals wait so long instead, as in `{1h: 5m}`. None waits less than a finer one, because a
    bucket is never final before those within it: a coarser interval that is not named waits at least as long too.
    What is late is a matter of `grace` alone."""
    merge_batches: int = Field(default=500, ge=1)
    """Most batches that one merge transaction takes."""
    retire_metrics_after: Kept = timedelta(days=1)
    """A metric that no running ingest process has declared for so long
    [ends](adding-a-metric.md#removing-a-metric); 1h at least."""

    @property
    def graces(self) -> dict[str, timedelta]:
        """How long buckets of each interval wait, finest first: never less than those of a finer one."""
        found: dict[str, timedelta] = {}
        longest = timedelta(0)
        for level in get_args(Level):
            longest = found[level] = self.grace_by_interval.get(level, max(self.grace, longest))
        return found

    @model_validator(mode="after")
    def _coarser_waits_as_long(self) -> Self:
        if found := [
            f"grace_by_interval: buckets of {coarser} would be final before those of {finer} within them: raise "
            f"{coarser} or lower {finer}"
            for (finer, shorter), (coarser, longer) in pairwise(self.graces.items())
            if longer < shorter
        ]:
            raise ValueError("; ".join(found))
        return self


class Retention(Section):
    """How long each kind of data is kept; each level at least as long as the finer one, marts as long as raw events."""

    raw_events: Kept = timedelta(days=90)
    """Events older than this are refused and removed, by whole UTC days."""
    minute_aggregates: Kept = timedelta(days=365)
    """1m rollups."""
    five_minute_aggregates: Kept = timedelta(days=365)
    """5m rollups."""
    fifteen_minute_aggregates: Kept = timedelta(days=365)
    """15m rollups."""
    hourly_aggregates: Kept = timedelta(days=730)
    """1h rollups."""
    daily_aggregates: Kept = timedelta(days=3650)
    """1d rollups."""
    order_analytics: Kept = timedelta(days=90)
    """This mart; at least `raw_events`, which it follows where that is longer and this key is not set."""
    user_behavior: Kept = timedelta(days=90)
    """This mart; the same holds."""
    market_analytics: Kept = timedelta(days=90)
    """Its rows at 1m and 5m; the same holds."""
    market_analytics_coarse: Kept = timedelta(days=730)
    """Its rows at 15m, 1h and 1d; the same holds, and at least `market_analytics`."""
    strategy_performance: Kept = timedelta(days=730)
    """This mart; the same holds."""
    system_metrics: Kept = timedelta(days=30)
    """What each process says of itself."""
    restatements: Kept = timedelta(days=90)
    """Lines of the feed of what changed after it was final ([backfill](backfill.md))."""
    source_statistics: Kept = timedelta(days=90)
    """What `analytics sources` shows, per hour and producer."""
    dead_letters: Kept = timedelta(days=90)
    """The bytes of dead letters, from when they were replayed or discarded; open ones stay. Reason and fate
    stay as long as the ledger."""
    ledger: Kept = timedelta(days=365)
    """Lines of the ledger, with their dead letters; lines of events that are still there stay. At least
    `dead_letters`."""
    dagster_runs: Kept = timedelta(days=14)
    """Finished runs of Dagster."""
    archive_uri: str | None = None
    """`file:///folder` or `s3://bucket/folder`: raw events are written there as Parquet and verified before
    they are removed ([retention](retention.md))."""
    cleanup_enabled: bool = True
    """Remove what has expired."""
    cleanup_interval: Duration = timedelta(days=1)
    """How often what has expired is removed: every so many whole hours below a day, else every so many days (28 at
    most) at 00:17 UTC."""
    partitions_ahead: int = Field(default=7, ge=1, le=60)
    """Days of partitions made ahead of time."""

    @model_validator(mode="after")
    def _marts_follow_raw_events(self) -> Self:
        """A late event finds the rows of its time in every mart; one that is not set is kept as long as raw events."""
        for mart in _MARTS_OF_EVENTS:
            if mart not in self.model_fields_set:
                setattr(self, mart, max(getattr(self, mart), self.raw_events))
        return self

    @model_validator(mode="after")
    def _coarser_is_kept_longer(self) -> Self:
        levels = ["raw_events", "minute_aggregates", "five_minute_aggregates", "fifteen_minute_aggregates",
                  "hourly_aggregates", "daily_aggregates"]  # fmt: skip
        order = [
            *pairwise(levels),
            *(("raw_events", mart) for mart in _MARTS_OF_EVENTS),
            ("market_analytics", "market_analytics_coarse"),
            ("dead_letters", "ledger"),
        ]
        if found := [
            f"{finer} is kept longer than {coarser}: raise {coarser} or lower {finer}"
            for finer, coarser in order
            if getattr(self, finer) > getattr(self, coarser)
        ]:
            raise ValueError("; ".join(found))
        return self

    @field_validator("archive_uri")
    @classmethod
    def _archive_is_an_address(cls, value: str | None) -> str | None:
        if not value:
            return None
        if re.fullmatch(r"file:///[^?#]+", value) or re.fullmatch(r"s3://[^/@?#]+(/[^?#]*)?", value):
            return value
        raise ValueError(
            "write file:///folder or s3://bucket/folder, without credentials or options: "
            "those of S3 come from AWS' own variables and files"
        )


class Query(Section):
    """Reads; `cache_ttl` is idle expiry in Redis, validity is the data version."""

    max_results: int = Field(default=10_000, ge=1)
    """Largest `limit` of a list of events."""
    max_scanned: int = Field(default=100_000, ge=1_000)
    """Events that one page may look at where no index leads to what is asked for."""
    default_limit: int = Field(default=100, ge=1)
    """`limit` when none is given."""
    timeout: Duration = timedelta(seconds=10)
    """Longest time for a query."""
    cache_enabled: bool = True
    """Whether answers are cached."""
    cache_ttl: Duration = timedelta(minutes=5)
    """A cached answer goes when nobody asked for it for so long; whether it is valid depends on the data
    alone."""
    max_points: int = Field(default=50_000, ge=1)
    """Most points of one answer."""
    max_concurrent: int = Field(default=16, ge=1)
    """Queries at the same time, per API process."""
    max_concurrent_per_key: int | None = Field(default=None, ge=1)
    """Of those, how many may be of one key or address; half of them if it is not given."""

    def of_one_key(self, most: int) -> int:
        """Of so many queries at once, how many may be of one key: half of them unless said otherwise."""
        return min(most, self.max_concurrent_per_key or max(1, most // 2))


class Analytics(Section):
    """The pipeline itself."""

    ingestion: Ingestion = Ingestion()
    aggregation: Aggregation = Aggregation()
    retention: Retention = Retention()
    query: Query = Query()


class CustomEvents(Section):
    """User-defined event types."""

    enabled: bool = True
    """Validate events of defined types."""
    strict: bool = False
    """Accept built-in and defined types only."""
    max_properties: int = Field(default=50, ge=1)
    """Keys of `properties` of a defined type."""
    max_property_size: int = Field(default=1024, ge=16)
    """Bytes of each of its names and values."""


class Dagster(Section):
    """Where Dagster keeps its own tables, and its web page."""

    host: str = "127.0.0.1"
    """Address of Dagster's page; it has no login."""
    port: Port = 3000
    """Port of Dagster's page."""
    schema_name: str = Field(default="dagster", pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    """Postgres schema for Dagster's own tables."""
