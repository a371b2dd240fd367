"""What the product talks to: Postgres, Redis, Kafka."""

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.settings.values import Duration, Options, Port, Section, TextList

_OWN_SOURCES = {"http", "_replay", "_import"}
"""Sources of the ledger that are no topics: posted events, dead letters landed again, the original's history."""
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
    """File that holds the password; wins over `password`, also over one in a variable."""
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
            ConfigurationError: `url` is no connection string, or the file with the password cannot be read.
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
    """File that holds the password; wins over `password`, also over one in a variable."""
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
