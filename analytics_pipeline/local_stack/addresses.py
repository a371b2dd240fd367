"""Where everything of the stack listens: ports from settings, free ones chosen, busy ones refused.

Belongs here: the ports of one stack. Does not belong here: sockets (`ports`).
"""

from dataclasses import dataclass

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack.ports import free_port, is_free
from analytics_pipeline.settings import Settings

LOOPBACK = "127.0.0.1"
PORTS_OF_SERVERS = frozenset(
    f"local_stack.{name}_port" for name in ("kafka", "kafka_controller", "postgres", "redis")
)
"""The settings of the ports that embedded servers listen on."""
_ANY = {"", "0.0.0.0", "::"}  # noqa: S104  compared with, not listened on


class PortInUse(EnvironmentFault):
    """Another program listens on a port this stack wants."""


@dataclass(frozen=True)
class Listener:
    """One port: the setting that chooses it, and the host it is bound to."""

    setting: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """`host:port` as a client on this machine would use it."""
        host = LOOPBACK if self.host in _ANY or self.host == "localhost" else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def listeners(settings: Settings, embedded: frozenset[str], earlier: dict[str, int]) -> dict[str, Listener]:
    """All ports of the stack, by setting; 0 becomes the port of an earlier start, or a free one.

    Raises:
        EnvironmentFault: two settings name the same port.
    """
    stack = settings.local_stack
    wanted = {
        "server.port": (settings.server.host, settings.server.port),
        "metrics.port": (settings.metrics.host, settings.metrics.port),
        "health.port": (settings.health.host, settings.health.port),
        "dagster.port": (settings.dagster.host, settings.dagster.port),
        "local_stack.dagster_code_port": (LOOPBACK, stack.dagster_code_port),
    }
    if "postgres" in embedded:
        wanted["local_stack.postgres_port"] = (LOOPBACK, stack.postgres_port)
    if "redis" in embedded:
        wanted["local_stack.redis_port"] = (LOOPBACK, stack.redis_port)
    if "kafka" in embedded:
        wanted["local_stack.kafka_port"] = (LOOPBACK, stack.kafka_port)
        wanted["local_stack.kafka_controller_port"] = (LOOPBACK, stack.kafka_controller_port)
    if not settings.metrics.enabled:
        del wanted["metrics.port"]
    if not settings.health.enabled:
        del wanted["health.port"]
    found: dict[str, Listener] = {}
    by_port: dict[int, str] = {port: setting for setting, (_, port) in wanted.items() if port}
    for setting, (host, port) in wanted.items():
        if port and by_port[port] != setting:
            raise EnvironmentFault(
                f"{setting} and {by_port[port]} both name port {port}: give one of them another, or 0 for a free one"
            )
        chosen = port or _choose(host, earlier.get(setting, 0), frozenset(by_port))
        by_port[chosen] = setting
        found[setting] = Listener(setting, host, chosen)
    return found


def refuse_busy(wanted: dict[str, Listener]) -> None:
    """Check that every port can be had.

    Raises:
        PortInUse: names the ports, and the settings to change.
    """
    busy = [one for one in wanted.values() if not is_free(one.port, one.host)]
    if len(busy) == 1:
        [one] = busy
        raise PortInUse(
            f"port {one.port} ({one.setting}) is in use by another program: stop that program, or set "
            f"{one.setting} in config.yaml or {variable(one.setting)} to another port (0 = any free one)"
        )
    if busy:
        ports = ", ".join(f"{one.port} ({one.setting})" for one in busy)
        variables = ", ".join(variable(one.setting) for one in busy)
        raise PortInUse(
            f"ports {ports} are in use by other programs: stop those, or set each in config.yaml, or {variables}, to "
            "another port (0 = any free one)"
        )


def variable(setting: str) -> str:
    """The environment variable of a setting."""
    return "B25_" + setting.upper().replace(".", "__")


def _choose(host: str, earlier: int, taken: frozenset[int]) -> int:
    if earlier and earlier not in taken and is_free(earlier, host):
        return earlier
    return free_port(taken, LOOPBACK if host in _ANY else host)
