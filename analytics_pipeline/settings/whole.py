"""All sections, and the checks between them."""

from typing import Self

from pydantic import model_validator

from analytics_pipeline.settings.local import LocalStack, Simulator
from analytics_pipeline.settings.pipeline import Analytics, CustomEvents, Dagster
from analytics_pipeline.settings.security import LOOPBACK, Security
from analytics_pipeline.settings.servers import Database, Kafka, Redis
from analytics_pipeline.settings.serving import Health, Logging, Metrics, Realtime, Server, Tracing
from analytics_pipeline.settings.values import Section


class Settings(Section):
    """Everything, validated; see the module's text for the sources."""

    server: Server = Server()
    database: Database = Database()
    redis: Redis = Redis()
    kafka: Kafka = Kafka()
    analytics: Analytics = Analytics()
    metrics: Metrics = Metrics()
    logging: Logging = Logging()
    health: Health = Health()
    custom_events: CustomEvents = CustomEvents()
    realtime: Realtime = Realtime()
    security: Security = Security()
    tracing: Tracing = Tracing()
    dagster: Dagster = Dagster()
    simulator: Simulator = Simulator()
    local_stack: LocalStack = LocalStack()

    @model_validator(mode="after")
    def _safe_beyond_loopback(self) -> Self:
        is_open = not (self.security.api_key_enabled or self.security.allow_anonymous)
        if self.server.host not in LOOPBACK and is_open:
            raise ValueError(
                f"server.host: {self.server.host} is beyond loopback and nobody needs a key; set "
                "security.api_key_enabled: true, or use 127.0.0.1, or set security.allow_anonymous: true if everybody "
                "who reaches this address may read and write"
            )
        return self
