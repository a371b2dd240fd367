"""What the product serves, and what it says about itself: the API, streams, health, series, logs, traces."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from analytics_pipeline.settings.values import Duration, Port, Section


class Server(Section):
    """The REST API."""

    host: str = "127.0.0.1"
    """Address the API listens on; beyond loopback only with `security.api_key_enabled`, or
    `security.allow_anonymous`."""
    port: Port = 9097
    """Port of the API."""
    read_timeout: Duration = timedelta(seconds=30)
    """Longest time to wait for the headers of a request, and for its body."""
    write_timeout: Duration = timedelta(seconds=30)
    """Longest time for a client to accept a piece of a stream or an export; then the connection is closed."""
    request_timeout: Duration = timedelta(seconds=60)
    """Longest time until the answer to a request begins; less than 30 s also ends waiting for landings."""
    shutdown_timeout: Duration = timedelta(seconds=10)
    """Time that running requests get when the API stops."""
    max_body_size: int = Field(default=10 * 1024 * 1024, ge=1024)
    """Bytes of a request's body, counted while it streams, and again while it is unpacked."""
    max_batch_events: int = Field(default=10_000, ge=1, le=65_536)
    """Events of one POST; blank lines of NDJSON count."""
    post_memory: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Bytes of posted bodies an API process holds at once; above it, 503."""
    idempotency_retention: Duration = timedelta(hours=24)
    """How long the answer to an `Idempotency-Key` is kept."""
    workers: int = Field(default=1, ge=1, le=64)
    """API processes."""


class Realtime(Section):
    """Live streams; `websocket_port` is accepted and unused: the original never opened it."""

    enabled: bool = True
    """Whether there are [streams](streams.md)."""
    update_interval: Duration = timedelta(milliseconds=500)
    """How often a stream looks for news."""
    max_connections: int = Field(default=1000, ge=1)
    """Open streams of one API process, half of them for one key or address."""
    websocket_port: Port | None = None
    """Accepted for the original's files; unused (the original never opened it)."""


class Health(Section):
    """Health endpoints on a port of their own (they are on the API's port too)."""

    enabled: bool = True
    """Serve health on a port of its own."""
    host: str = "127.0.0.1"
    """Address."""
    port: Port = 9099
    """Port."""
    path: str = "/health"
    """Path, beside `/health`, `/healthz`, `/ready`."""
    check_interval: Duration = timedelta(seconds=1)
    """Postgres and Redis are asked at most this often."""


class Metrics(Section):
    """Prometheus."""

    enabled: bool = True
    """Serve Prometheus' series."""
    host: str = "127.0.0.1"
    """Address."""
    port: Port = 9098
    """Port."""
    path: str = "/metrics"
    """Path."""
    folder: Path | None = None
    """Folder in which the processes of this machine share their series; `analytics up` sets it."""


class Logging(Section):
    """Structured logs, one event a line."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """`debug`, `info`, `warning`, `error`."""
    format: Literal["json", "console", "logfmt"] = "logfmt"
    """`logfmt`, `json`, `console`."""

    @model_validator(mode="before")
    @classmethod
    def _accept_upper_case(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("level"), str):
            level = data["level"].lower()
            data = {**data, "level": "warning" if level == "warn" else level}
        return data


class Tracing(Section):
    """Traces by OpenTelemetry; needs the extra `tracing`. `headers` is `name=value,name=value`, for the receiver."""

    enabled: bool = False
    """Whether spans are made and sent."""
    endpoint: str = "http://localhost:4318/v1/traces"
    """Where spans are sent, by OTLP over HTTP."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of traces that are kept where their sender has not decided."""
    headers: SecretStr = SecretStr("")
    """Sent with spans: `name=value`, several with commas."""

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_an_address(cls, value: str) -> str:
        if re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", value):
            return value
        raise ValueError("write the whole address, like http://collector:4318/v1/traces, without credentials")

    @field_validator("headers")
    @classmethod
    def _headers_are_pairs(cls, value: SecretStr) -> SecretStr:
        pairs = value.get_secret_value().split(",") if value else []
        if all(re.fullmatch(r"\s*[A-Za-z0-9-]+=[^\r\n]+", pair) for pair in pairs):
            return value
        raise ValueError("write name=value, several with commas")

    def header_values(self) -> dict[str, str]:
        """By name, in lower case; the secret itself."""
        text = self.headers.get_secret_value()
        pairs = (pair.partition("=") for pair in text.split(",") if text)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}
