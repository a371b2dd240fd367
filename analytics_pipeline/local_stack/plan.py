"""The stack as settings describe it: which servers are embedded, every address, the environment of its processes.

Belongs here: what is decided before anything runs. Does not belong here: the processes (`applications`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from sqlalchemy.engine import URL

from analytics_pipeline.defs.environment import dagster_environment
from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.local_stack.addresses import LOOPBACK, PORTS_OF_SERVERS, Listener, listeners
from analytics_pipeline.local_stack.kafka import Kafka
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.local_stack.service import Service
from analytics_pipeline.local_stack.state import StateFolder
from analytics_pipeline.settings import SHARED_FOLDER, WAITS, Database, Settings
from analytics_pipeline.settings import Kafka as KafkaSettings
from analytics_pipeline.settings import Redis as RedisSettings


def embedded_servers(settings: Settings) -> frozenset[str]:
    """The servers `up` starts itself; see `settings.LocalStack`."""
    wanted = settings.local_stack.embed
    if wanted is None:
        database, redis = settings.database, settings.redis
        at_default = {
            "kafka": settings.kafka.brokers == KafkaSettings().brokers,
            "postgres": database.url is None
            and (database.host, database.port) == (Database().host, Database().port),
            "redis": (redis.host, redis.port) == (RedisSettings().host, RedisSettings().port),
        }
        wanted_names = {name for name, is_default in at_default.items() if is_default}
    else:
        wanted_names = set(wanted)
    if not settings.kafka.enabled:
        wanted_names.discard("kafka")
    if not settings.redis.enabled:
        wanted_names.discard("redis")
    return frozenset(wanted_names)


@dataclass(frozen=True)
class Plan:
    """Everything `up` needs to know.

    Attributes:
        settings: as read; the processes get them with the stack's own addresses put in.
        config: the configuration file, if there is one, absolute.
        with_simulator: whether the simulator runs.
        servers_only: whether nothing but the embedded servers runs.
    """

    settings: Settings
    folder: StateFolder
    listeners: Mapping[str, Listener]
    embedded: frozenset[str]
    config: Path | None = None
    with_simulator: bool = True
    servers_only: bool = False

    @classmethod
    def make(
        cls,
        settings: Settings,
        folder: StateFolder,
        *,
        config: Path | None = None,
        with_simulator: bool | None = None,
        servers_only: bool = False,
    ) -> "Plan":
        """Decide; `with_simulator` None: when Kafka is embedded (never into somebody's own Kafka unasked).

        Raises:
            ConfigurationError: only servers are asked for, and none of them is embedded.
        """
        embedded = embedded_servers(settings)
        if servers_only and not embedded:
            raise ConfigurationError(
                "--servers-only starts the embedded Kafka, Postgres and Redis, and none is embedded here: start your "
                "own servers yourself, or see local_stack.embed"
            )
        ports = listeners(settings, embedded, folder.read().ports)
        simulate = (
            "kafka" in embedded if with_simulator is None else with_simulator and settings.kafka.enabled
        )
        file = config.resolve() if config else None
        return cls(settings, folder, ports, embedded, file, simulate and not servers_only, servers_only)

    @cached_property
    def postgres(self) -> Postgres | None:
        """The embedded Postgres, if it is."""
        if "postgres" not in self.embedded:
            return None
        return Postgres(
            self.folder.path / "postgres",
            port=self.listeners["local_stack.postgres_port"].port,
            user=self.settings.database.user,
            database=self.settings.database.database,
        )

    @cached_property
    def kafka(self) -> Kafka | None:
        """The embedded Kafka, if it is."""
        if "kafka" not in self.embedded:
            return None
        return Kafka(
            self.folder.path / "kafka",
            port=self.listeners["local_stack.kafka_port"].port,
            controller_port=self.listeners["local_stack.kafka_controller_port"].port,
            heap=self.settings.local_stack.kafka_heap,
        )

    @cached_property
    def redis(self) -> Redis | None:
        """The embedded Redis, if it is."""
        if "redis" not in self.embedded:
            return None
        return Redis(self.folder.path / "redis", port=self.listeners["local_stack.redis_port"].port)

    @property
    def used_listeners(self) -> dict[str, Listener]:
        """The ports that are listened on, by setting."""
        return {
            setting: listener
            for setting, listener in self.listeners.items()
            if not self.servers_only or setting in PORTS_OF_SERVERS
        }

    @property
    def servers(self) -> list[Service]:
        """What starts first."""
        return [server.service() for server in (self.postgres, self.kafka, self.redis) if server is not None]

    @cached_property
    def resolved(self) -> Settings:
        """The settings with this stack's own addresses in place of those of embedded servers; they hold secrets."""
        settings = self.settings.model_copy()
        for section in ("server", "metrics", "health", "dagster"):
            listener = self.listeners.get(f"{section}.port")
            update = {"port": listener.port} if listener else {}
            setattr(settings, section, getattr(settings, section).model_copy(update=update))
        if self.postgres is not None:
            url = SecretStr(postgres_url(self.postgres.conninfo()))
            settings.database = settings.database.model_copy(update={"url": url})
        if self.kafka is not None:
            settings.kafka = settings.kafka.model_copy(
                update={"brokers": [self.kafka.address], "options": {}}
            )
        if self.redis is not None:
            place = {
                "host": self.redis.host,
                "port": self.redis.port,
                "db": 0,
                "tls": False,
                "username": None,
            }
            secret = {"password": SecretStr(self.redis.password), "password_file": None}
            settings.redis = settings.redis.model_copy(update=place | secret)
        return settings

    def variables(self) -> dict[str, str]:
        """The environment variables that lead any command of the product to this stack; they hold secrets."""
        folder, resolved = self.folder, self.resolved
        ours = {
            "B25_LOCAL_STACK__STATE_FOLDER": str(folder.path.resolve()),
            "B25_METRICS__FOLDER": str(folder.metrics.resolve()),
            SHARED_FOLDER: str(folder.metrics.resolve()),
            "DAGSTER_HOME": str(folder.dagster.resolve()),
            "B25_SERVER__PORT": str(resolved.server.port),
            "B25_METRICS__PORT": str(resolved.metrics.port),
            "B25_HEALTH__PORT": str(resolved.health.port),
            "B25_DAGSTER__PORT": str(resolved.dagster.port),
            **dagster_environment(resolved),
        }
        if self.config is not None:
            ours["B25_CONFIG"] = str(self.config)
        if self.postgres is not None and resolved.database.url is not None:
            ours["B25_DATABASE__URL"] = resolved.database.url.get_secret_value()
        if self.kafka is not None:
            ours |= {"B25_KAFKA__BROKERS": self.kafka.address, "B25_KAFKA__OPTIONS": "{}"}
        if self.redis is not None:
            ours |= {
                "B25_REDIS__HOST": self.redis.host,
                "B25_REDIS__PORT": str(self.redis.port),
                "B25_REDIS__USERNAME": "default",
                "B25_REDIS__PASSWORD": self.redis.password,
                "B25_REDIS__TLS": "false",
                "B25_REDIS__DB": "0",
            }
        return ours

    def addresses(self) -> dict[str, str | None]:
        """Where a person or a program reaches each part; Postgres' and Redis' hold their passwords."""
        redis = self.settings.redis
        found: dict[str, str | None] = {
            "kafka": ",".join(self.resolved.kafka.brokers) if self.settings.kafka.enabled else None,
            "postgres": postgres_url(self.resolved.database.conninfo()),
            "redis": f"redis://{redis.host}:{redis.port}/{redis.db}" if redis.enabled else None,
            "api": f"http://{self.listeners['server.port'].address}",
            "metrics": None,
            "health": None,
            "dagster": f"http://{self.listeners['dagster.port'].address}",
        }
        if self.redis is not None:
            found["redis"] = f"redis://:{self.redis.password}@{self.redis.host}:{self.redis.port}/0"
        if "metrics.port" in self.listeners:
            found["metrics"] = f"http://{self.listeners['metrics.port'].address}{self.settings.metrics.path}"
        if "health.port" in self.listeners:
            found["health"] = f"http://{self.listeners['health.port'].address}{self.settings.health.path}"
        if self.servers_only:
            found |= dict.fromkeys(("api", "metrics", "health", "dagster"))
        return found


def postgres_url(conninfo: str) -> str:
    """A connection string as a URL, password included; without how long to wait, for each client knows that."""
    parts = {key: str(value) for key, value in conninfo_to_dict(conninfo).items() if value is not None}
    for name in WAITS:
        parts.pop(name, None)
    port = parts.pop("port", None)
    url = URL.create(
        "postgresql",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        host=parts.pop("host", LOOPBACK),
        port=int(port) if port else None,
        database=parts.pop("dbname", None),
        query=parts,
    )
    return url.render_as_string(hide_password=False)
