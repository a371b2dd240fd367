"""Answers of `/api/v1/pipeline`: the documented shapes."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from analytics_pipeline.storage.partition_states import State
from analytics_pipeline.storage.problems import Kind, Severity
from analytics_pipeline.storage.standings import StopReason


class ProblemOfPipelineAnswer(BaseModel):
    """Something that a person has to look at."""

    name: Kind = Field(description="Stable; new ones may come.", examples=["partition_behind"])
    severity: Severity = Field(description="error: now; warning: in the morning.", examples=["warning"])
    reason: str | None = Field(
        description="Of partition_stopped: the stop_reason; else null.", examples=[None]
    )
    text: str = Field(description="What is wrong.", examples=["order.events/2 is up to 7 min behind Kafka."])
    advice: str = Field(
        description="What to do.", examples=["Read ingest's log for retries or a stopped partition."]
    )


class PartitionAnswer(BaseModel):
    """How far a partition of Kafka is."""

    source: str = Field(description="The topic.", examples=["order.events"])
    partition: int = Field(examples=[2])
    state: State = Field(
        description="The worst that can be said: late is more than five minutes behind, very_late more than ten.",
        examples=["fresh"],
    )
    next_offset: int = Field(description="Everything before it has landed.", examples=[16000])
    lag: int | None = Field(
        description="Messages that Kafka holds beyond, as ingest last said; null where no ingest process of the API's "
        "machine reads the partition.",
        examples=[12],
    )
    rate: float = Field(description="Messages a second that landed in the last minute.", examples=[120.5])
    caught_up_at: datetime | None = Field(description="Everything that Kafka held then has landed.")
    behind_seconds: float | None = Field(description="Since then.", examples=[0.9])
    is_retired: bool = Field(description="No longer read.", examples=[False])
    is_owner_connected: bool = Field(
        description="Whether the process that claimed it last is there.", examples=[True]
    )
    stop_reason: StopReason | None = Field(
        description="Why ingest has stopped it until a person decides; null: it has not.", examples=[None]
    )
    stopped: str | None = Field(
        description="The same in a sentence, and the command that resolves it.", examples=[None]
    )


class LandingAnswer(BaseModel):
    """What is landed, and what waits for it."""

    rate: float = Field(
        description="Messages a second, in the last minute, posted ones too.", examples=[480.0]
    )
    landed_at: datetime | None = Field(description="The last commit of a landing.")
    connections: int = Field(
        description="Open landing connections of all ingest processes; 0: none runs.", examples=[2]
    )
    inbox_events: int = Field(description="Posted and not landed.", examples=[0])
    inbox_oldest_seconds: float = Field(description="Age of the oldest of them.", examples=[0.0])
    partitions: list[PartitionAnswer]


class UnsettledAnswer(BaseModel):
    """Buckets of an interval that are not final."""

    interval: str = Field(examples=["1m"])
    state: Literal["open", "settling"]
    count: int = Field(examples=[2])
    oldest: datetime = Field(description="Start of the oldest of them.")


class RollupsAnswer(BaseModel):
    """What is settled, and what is pending: metrics are their sum at every moment."""

    pending_deltas: int = Field(examples=[2400])
    pending_hours: int = Field(description="UTC hours in which some are.", examples=[1])
    oldest_pending_seconds: float | None = Field(
        description="Since the first commit that no merge has settled; null: nothing is pending.",
        examples=[31.0],
    )
    settled_at: datetime | None = Field(description="The last commit of a merge or recompute.")
    run_id: str | None = Field(description="Of it, as far as the last day's minutes tell.")
    unsettled: list[UnsettledAnswer]
    due: int = Field(description="Buckets that could be final; the next merge makes them so.", examples=[0])
    restated: int = Field(description="Buckets that changed in 24 h after they were final.", examples=[3])


class RecentAnswer(BaseModel):
    """Messages of the last hour."""

    read: int = Field(examples=[1728000])
    dead: int = Field(examples=[12])
    reasons: dict[str, int] = Field(description="Dead letters by reason.", examples=[{"bad_user_id": 12}])
    gaps: int = Field(description="Batches that do not begin where the one before ended.", examples=[0])
    unbalanced: int = Field(description="Batches with read ≠ stored + duplicate + dead.", examples=[0])


class TablesAnswer(BaseModel):
    """Room for events, and what should be gone."""

    days_ahead: float = Field(description="For which events have a partition.", examples=[6.9])
    overdue_seconds: float = Field(
        description="Since the oldest partition should have been removed; 0: none should.", examples=[0.0]
    )


class PipelineAnswer(BaseModel):
    """Whether anything is wrong, what, and what to do; then the numbers."""

    at: datetime
    status: Literal["ok", "warning", "error"] = Field(description="Of the worst problem.")
    problems: list[ProblemOfPipelineAnswer] = Field(
        description="Errors first; empty: nothing has to be done."
    )
    landing: LandingAnswer
    rollups: RollupsAnswer
    last_hour: RecentAnswer
    tables: TablesAnswer


class RunAnswer(BaseModel):
    """A run of Dagster."""

    run_id: str = Field(examples=["4c7f1a52-9a0e-4a55-8f5e-0b7c6a3d2e11"])
    job: str = Field(description="`assets`: assets that a person materialized.", examples=["merge_live"])
    status: str = Field(description="As Dagster has it.", examples=["SUCCESS"])
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class AssetCheckAnswer(BaseModel):
    """The last evaluation of a check."""

    asset: str = Field(examples=["events"])
    name: str = Field(examples=["ledger_is_conserved"])
    run_id: str
    passed: bool = Field(examples=[True])
    severity: Severity = Field(description="That it has when it fails.", examples=["error"])
    evaluated_at: datetime


class RunsAnswer(BaseModel):
    """What Dagster is about."""

    is_known: bool = Field(description="Whether Dagster keeps its tables in this database.", examples=[True])
    daemon_at: datetime | None = Field(description="When its daemon last said something.")
    runs: list[RunAnswer] = Field(description="The newest sixty, and failed ones of 24 h.")
    checks: list[AssetCheckAnswer] = Field(
        description="Evaluated in the last three hours, by asset and name."
    )
