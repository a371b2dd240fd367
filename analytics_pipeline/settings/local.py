"""The stack on this machine: `analytics up` and its simulator."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from analytics_pipeline.settings.values import Duration, Port, Section, split_list


class Simulator(Section):
    """The trading simulator of `analytics up`."""

    rate: float = Field(default=100.0, gt=0, le=100_000)
    """Events a second."""
    history: Duration = timedelta(hours=24)
    """How far the history of a first start goes back."""
    history_events: int = Field(default=150_000, ge=0)
    """How many events it has, up to 60 % of them in its last 15 minutes, at the rate of the simulator; 0 for none."""
    late_ratio: float = Field(default=0.002, ge=0, le=1)
    """Share of events that are late."""
    duplicate_ratio: float = Field(default=0.002, ge=0, le=1)
    """Share of messages sent twice."""
    broken_ratio: float = Field(default=0.001, ge=0, le=1)
    """Share of messages that cannot become events."""
    seed: int | None = None
    """The same seed gives the same events; without it each start has its own."""


class LocalStack(Section):
    """The embedded stack of `analytics up`: one folder, and its ports (0 = any free one, kept from then on).

    `embed` lists what to start here; left out, each server whose address (`kafka.brokers`, `database.url`, `host`
    and `port`, `redis.host` and `port`) is at its default.
    """

    state_folder: Path = Path(".analytics")
    """Where `analytics up` keeps data, logs, ports and passwords."""
    embed: Annotated[list[Literal["kafka", "postgres", "redis"]] | None, BeforeValidator(split_list)] = None
    """Which of `kafka`, `postgres`, `redis` to start; left out: those whose address is at its default."""
    kafka_port: Port = 9092
    """Port of the embedded Kafka."""
    kafka_controller_port: Port = 9093
    """Its controller's port."""
    kafka_heap: str = Field(default="512m", pattern=r"^\d+[mg]$")
    """Its heap."""
    postgres_port: Port = 5432
    """Port of the embedded Postgres."""
    redis_port: Port = 6379
    """Port of the embedded Redis."""
    dagster_code_port: Port = 0
    """Port of the code server."""
