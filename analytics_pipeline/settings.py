"""All settings, read once: `config.yaml`, then environment variables, which win.

Belongs here: every key, its type, its default, its limits, and the checks between keys.
Does not belong here: what a setting does. No other module reads the environment.

Sources, strongest first:
1. `B25_<SECTION>__<KEY>`, e.g. `B25_KAFKA__GROUP_ID`, `B25_ANALYTICS__INGESTION__BATCH_SIZE`;
2. the original service's names (`SERVER_PORT`, `DB_HOST`, … : see `ORIGINAL_VARIABLES`);
3. the file named by `B25_CONFIG`, else `config.yaml` in the working directory, if it is there, the original's names
   of keys included (`original_names`);
4. the defaults below.
"""

import json
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.original_names import with_our_names

ORIGINAL_VARIABLES = {
    "SERVER_PORT": ("server", "port"),
    "DB_HOST": ("database", "host"),
    "DB_PORT": ("database", "port"),
    "DB_NAME": ("database", "database"),
    "DB_USER": ("database", "user"),
    "DB_PASSWORD": ("database", "password"),
    "REDIS_HOST": ("redis", "host"),
    "REDIS_PORT": ("redis", "port"),
    "KAFKA_BROKERS": ("kafka", "brokers"),
    "LOG_LEVEL": ("logging", "level"),
}
"""Environment variables of the original service and the key each one sets."""

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of prometheus_client: where the processes of one machine put their series, if they do."""

_MARTS_OF_EVENTS = (
    "order_analytics",
    "user_behavior",
    "market_analytics",
    "market_analytics_coarse",
    "strategy_performance",
)
_OWN_SOURCES = {"http", "_replay", "_import"}
"""Sources of the ledger that are no topics: posted events, dead letters landed again, the original's history."""
PREFIX = "B25_"
"""What the name of each of our own environment variables begins with."""
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SILENCE = {
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""A Postgres that vanished without a word (its machine or network is gone) is noticed within about 10 s; without these
a COPY to it would wait for many minutes."""
WAITS = frozenset({"connect_timeout", *_SILENCE})
"""Parameters of a connection that say how long to wait for Postgres."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def parse_duration(value: object) -> timedelta:
    """Read `250ms`, `30s`, `1h30m`, `90d` or `2w`.

    A `timedelta` passes unchanged.

    Raises:
        ValueError: anything else, a bare number included, because its unit would be a guess.
    """
    if isinstance(value, timedelta):
        return value
    text = str(value).strip()
    if not text or _DURATION.sub("", text):
        raise ValueError("write a duration with its unit, like 250ms, 30s, 5m, 1h30m or 90d")
    return timedelta(seconds=sum(float(n) * _UNITS[u] for n, u in _DURATION.findall(text)))


def _read_json(value: object) -> object:
    """Allow a JSON object where a mapping is expected, for environment variables."""
    return json.loads(value) if isinstance(value, str) else value


def _split_list(value: object) -> object:
    """Allow `a,b` where a list is expected: environment variables have no lists."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _keep_something(value: timedelta) -> timedelta:
    """Refuse what would remove everything: 0 is no way to write *for ever*."""
    if value < timedelta(hours=1):
        raise ValueError(
            "keep it for at least 1h; what should stay for ever takes a long time, such as 36500d"
        )
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Kept = Annotated[timedelta, BeforeValidator(parse_duration), AfterValidator(_keep_something)]
"""How long something is kept."""
TextList = Annotated[list[str], BeforeValidator(_split_list)]
Options = Annotated[dict[str, str | int | float | bool], BeforeValidator(_read_json)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """One section of the file; an unknown key is a problem, because it is most often a misspelt one.

    The text below a key is what `docs/configuration.md` says about it.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True, use_attribute_docstrings=True)


class Server(Section):
    """The REST API."""

    host: str = "127.0.0.1"
    """Address the API listens on; beyond loopback only with `security.api_key_enabled`, or
    `security.allow_anonymous`."""
    port: Port = 9097
    """Port of the API."""
    read_timeout: Duration = timedelta(seconds=30)
    """Longest time to wait for a request's body."""
    write_timeout: Duration = timedelta(seconds=30)
    """Accepted for the original's files; unused."""
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


class Database(Section):
    """Postgres; `url` wins over the parts. A host that begins with `/` is a socket folder."""

    url: SecretStr | None = None
    """`postgresql://…`; wins over the parts below."""
    host: str = "localhost"
    """Host, or a folder that holds a socket."""
    port: Port = 5432
    """Port."""
    database: str = "analytics"
    """Name of the database."""
    user: str = "analytics_user"
    """Role; it owns the tables."""
    password: SecretStr = SecretStr("")
    """Its password."""
    password_file: Path | None = None
    """File that holds the password."""
    ssl_mode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    """libpq's `sslmode`: `disable`, `allow`, `prefer`, `require`, `verify-ca`, `verify-full`."""
    max_connections: int = Field(default=50, ge=5)
    """Bound of an API process's connections; `analytics.query.max_concurrent` is the usual limit."""
    max_idle_connections: int = Field(default=10, ge=0)
    """Accepted for the original's files; unused."""
    connection_max_lifetime: Duration = timedelta(hours=1)
    """A pooled connection is replaced after this."""
    connect_timeout: Duration = timedelta(seconds=5)
    """Longest time to wait for a connection."""

    def conninfo(self) -> str:
        """A libpq connection string, password included: hand it to a driver, never to a log.

        Raises:
            ConfigurationError: the URL is none, or the file with the password cannot be read.
        """
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        waits = _SILENCE | {"connect_timeout": str(max(2, int(self.connect_timeout.total_seconds())))}
        if self.url is not None:
            url = self.url.get_secret_value()
            try:
                given = conninfo_to_dict(url)
            except ProgrammingError:
                raise ConfigurationError(
                    "database.url is no connection string: write postgresql://user:password@host:port/database"
                ) from None
            return make_conninfo(url, **{key: n for key, n in waits.items() if key not in given})
        password = _secret("database", self.password, self.password_file)
        return make_conninfo(
            host=self.host,
            port=self.port,
            dbname=self.database,
            user=self.user,
            password=password or None,
            sslmode=None if self.host.startswith("/") else self.ssl_mode,
            **waits,
        )


def _secret(section: str, given: SecretStr, file: Path | None) -> str:
    """A password, from its file if there is one."""
    if file is None:
        return given.get_secret_value()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{section}.password_file: {file} cannot be read as text") from None


class Redis(Section):
    """The cache; it may disappear at any moment, and only latency changes."""

    enabled: bool = True
    """Whether to use Redis at all."""
    host: str = "localhost"
    """Host."""
    port: Port = 6379
    """Port."""
    username: str | None = None
    """ACL user."""
    password: SecretStr = SecretStr("")
    """Password."""
    password_file: Path | None = None
    """File that holds the password."""
    db: int = Field(default=0, ge=0)
    """Database number."""
    tls: bool = False
    """Connect with TLS."""
    tls_ca_file: Path | None = None
    """CA certificates for TLS."""
    pool_size: int = Field(default=20, ge=1)
    """Connections per API process."""
    timeout: Duration = timedelta(milliseconds=250)
    """Longest wait for Redis; after it the read goes to Postgres."""

    def secret(self) -> str:
        """The password, empty if there is none.

        Raises:
            ConfigurationError: its file cannot be read.
        """
        return _secret("redis", self.password, self.password_file)

    def address(self) -> dict[str, Any]:
        """Where it is and who we are, as arguments of its clients, blocking or not.

        Raises:
            ConfigurationError: the file of the password cannot be read.
        """
        return {
            "host": self.host,
            "port": self.port,
            "db": self.db,
            "username": self.username,
            "password": self.secret() or None,
            "ssl": self.tls,
            "ssl_ca_certs": str(self.tls_ca_file) if self.tls_ca_file else None,
        }


class Topic(Section):
    """Settings of topics this product creates; existing topics are never changed."""

    partitions: int = Field(default=4, ge=1)
    """Partitions of topics it creates."""
    replication_factor: int = Field(default=1, ge=1)
    """Replicas of topics it creates."""


class Kafka(Section):
    """Kafka; `options` goes to librdkafka as it is (SASL, TLS, …)."""

    enabled: bool = True
    """Without it only REST brings events."""
    brokers: TextList = Field(default=["localhost:9092"])
    """Bootstrap addresses, `host:port`."""
    topics: TextList = Field(default=["trading.events", "market.data", "order.events", "user.actions"])
    """Topics that ingest reads."""
    group_id: str = Field(default="analytics-consumer-group", min_length=1)
    """Consumer group."""
    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    """Where a topic begins that was never read: `earliest` or `latest`."""
    create_topics: bool = True
    """Create topics that do not exist."""
    topic: Topic = Topic()
    session_timeout: Duration = timedelta(seconds=10)
    """After this a silent ingest process loses its partitions to the others."""
    options: Options = Field(default={})
    """Librdkafka settings, passed on as they are (SASL, TLS)."""

    @model_validator(mode="after")
    def _topics_are_not_our_own_sources(self) -> Self:
        for name in _OWN_SOURCES & set(self.topics):
            raise ValueError(
                f"topics: {name} is the ledger's name for a source that is no topic; use another topic"
            )
        return self


class Ingestion(Section):
    """Landing: rows per transaction, longest wait, landing connections, rows in memory."""

    batch_size: int = Field(default=20_000, ge=1, le=200_000)
    """Most rows per transaction."""
    batch_timeout: Duration = timedelta(milliseconds=200)
    """Longest wait for a batch to fill."""
    workers: int = Field(default=2, ge=1, le=64)
    """Landing connections per ingest process."""
    buffer_size: int = Field(default=100_000, ge=1)
    """Rows in memory per ingest process."""
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
    merge_batches: int = Field(default=500, ge=1)
    """Most batches that one merge transaction takes."""
    retire_metrics_after: Kept = timedelta(days=1)
    """A metric that no running ingest process has declared for so long
    [ends](adding-a-metric.md#removing-a-metric); 1h at least."""


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
    """Accepted for the original's files; removal is daily, after midnight UTC."""
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


class Realtime(Section):
    """Live streams; `websocket_port` is accepted and unused: the original never opened it."""

    enabled: bool = True
    """Whether there are [streams](streams.md)."""
    update_interval: Duration = timedelta(seconds=1)
    """How often a stream looks for news."""
    max_connections: int = Field(default=1000, ge=1)
    """Open streams of one API process."""
    websocket_port: Port | None = None
    """Accepted for the original's files; unused (the original never opened it)."""


class Cors(Section):
    """Browsers of other origins; they never send cookies here, so `*` opens nothing that has none."""

    enabled: bool = False
    """Answer browsers of other origins."""
    allowed_origins: TextList = Field(default=[])
    """Which, such as `https://page.example`, or `*`; never with cookies."""

    @field_validator("allowed_origins")
    @classmethod
    def _origins_are_origins(cls, value: list[str]) -> list[str]:
        if all(one == "*" or re.fullmatch(r"https?://[^/?#@\s*]+", one) for one in value):
            return value
        raise ValueError("write each as a browser does, like https://page.example:8443, or * alone for all")


class RateLimit(Section):
    """Requests per client."""

    enabled: bool = True
    """Limit requests per key, over all API processes, and per address without one; loopback without a key
    is exempt."""
    requests_per_minute: int = Field(default=1000, ge=1)
    """Requests a minute."""
    burst: int = Field(default=100, ge=1)
    """Requests at once."""


class Security(Section):
    """Without API keys only loopback is open, unless `allow_anonymous` says otherwise."""

    api_key_enabled: bool = False
    """Every request needs an API key, on loopback too ([security](security.md))."""
    allow_anonymous: bool = False
    """Without keys, allow `server.host` beyond loopback: everybody who reaches it may read and write."""
    session_lifetime: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=30))] = timedelta(hours=12)
    """How long the cookie of a page holds, at most `30d`."""
    audit_retention: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(days=365)
    """How long lines of the audit log are kept."""
    cors: Cors = Cors()
    rate_limit: RateLimit = RateLimit()


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


class Dagster(Section):
    """Where Dagster keeps its own tables, and its web page."""

    host: str = "127.0.0.1"
    """Address of Dagster's page; it has no login."""
    port: Port = 3000
    """Port of Dagster's page."""
    schema_name: str = Field(default="dagster", pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    """Postgres schema for Dagster's own tables."""


class Simulator(Section):
    """The trading simulator of `analytics up`."""

    rate: float = Field(default=100.0, gt=0, le=100_000)
    """Events a second."""
    history: Duration = timedelta(hours=24)
    """How far the history of a first start goes back."""
    history_events: int = Field(default=150_000, ge=0)
    """How many events it has; 0 for none."""
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
    embed: Annotated[list[Literal["kafka", "postgres", "redis"]] | None, BeforeValidator(_split_list)] = None
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


LOOPBACK = {"127.0.0.1", "localhost", "::1"}


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


def environment() -> dict[str, str]:
    """A copy of the process environment, for starting child processes: the one other reader of it."""
    return dict(os.environ)  # noqa: TID251


def adopt(variables: Mapping[str, str]) -> None:
    """Put `variables` into the environment of this process and its children, and forget what was read before.

    For `analytics`, before any other module has asked for settings.
    """
    os.environ.update(variables)  # noqa: TID251
    settings.cache_clear()


def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        path = config_file() or Path("config.yaml")
        if not config_file() and not path.exists():
            return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"the configuration file {path} does not exist; check B25_CONFIG or --config"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        where = getattr(error, "problem_mark", None)
        at = f", line {where.line + 1}" if where is not None else ""
        raise ConfigurationError(f"the configuration file {path}{at} cannot be read as YAML") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"the configuration file {path} must be a mapping of sections")
    return content


def config_file() -> Path | None:
    """The file that `B25_CONFIG` or `--config` names; None: config.yaml in the working directory, if it is there."""
    named = environment().get("B25_CONFIG")
    return Path(named) if named else None


def load_settings(path: Path | None = None) -> Settings:
    """Read file and environment.

    Raises:
        ConfigurationError: every problem at once, one sentence per key; values are never repeated,
            because any of them could be a secret.
    """
    content = with_our_names(_read_file(path))
    variables = environment()
    for variable, key in ORIGINAL_VARIABLES.items():
        if variables.get(variable):
            _set(content, key, variables[variable])
    for variable, text in variables.items():
        if variable.startswith(PREFIX) and variable != "B25_CONFIG":
            _set(content, tuple(variable.removeprefix(PREFIX).lower().split("__")), text)
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(*_sentences(error)) from None


def _set(content: dict[str, Any], key: tuple[str, ...], text: str) -> None:
    """Put `text` at the nested `key`; a section that is not a mapping is left for validation to report."""
    for part in key[:-1]:
        below = content.setdefault(part, {})
        if not isinstance(below, dict):
            return
        content = below
    content[key[-1]] = text


def _sentences(error: ValidationError) -> list[str]:
    found = []
    for item in error.errors(include_input=False, include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "is not a known setting; check its spelling and its section"
        found.append(f"{key}: {message}" if key else message)
    return found


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


def project_file(name: str) -> Path:
    """A file or folder that ships with the product (`sql/migrations`, `dbt_models`, `dagster.yaml`).

    In a checkout it stands beside the packages, in an installed wheel inside `analytics_pipeline`.
    """
    here = Path(__file__).resolve().parent
    beside = here.parent / name
    return beside if beside.exists() else here / "_project" / name
