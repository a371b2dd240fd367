"""Runs all checks, each bounded in time, whatever becomes of the others.

Belongs here: the list of checks, what each needs, and running them. Does not belong here: any check.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import psycopg

from analytics_pipeline.doctor import configuration, kafka, machine, postgres, redis
from analytics_pipeline.doctor.findings import Finding, Level, Verdict, problem, remark
from analytics_pipeline.doctor.installation import Installation
from analytics_pipeline.errors import AnalyticsError

PATIENCE = 15.0
"""Seconds that a check may take."""

Look = Callable[[Installation], Iterator[Verdict]]


class Need(StrEnum):
    """What a check needs to be there."""

    POSTGRES = "postgres"
    SCHEMA = "schema"
    KAFKA = "kafka"
    REDIS = "redis"


@dataclass(frozen=True)
class Check:
    """One check: its name, what it looks at, and the checks without which it makes no sense."""

    name: str
    look: Look
    needs: tuple[Need, ...] = ()


CHECKS = (
    Check("configuration", configuration.valid),
    Check("ingestion speed", configuration.speed),
    Check("exposure", configuration.exposure),
    Check("secrets", configuration.secrets),
    Check("python", machine.python),
    Check("stack", machine.stack),
    Check("ports", machine.ports),
    Check("state folder", machine.folder),
    Check("disk", machine.disk_here),
    Check("postgres", postgres.reachable),
    Check("postgres clock", postgres.clock, (Need.POSTGRES,)),
    Check("schema", postgres.schema, (Need.POSTGRES,)),
    Check("partitions ahead", postgres.partitions, (Need.SCHEMA,)),
    Check("postgres disk", machine.disk_of_postgres, (Need.SCHEMA,)),
    Check("roles", postgres.roles, (Need.SCHEMA,)),
    Check("keys", postgres.keys, (Need.SCHEMA,)),
    Check("dagster", postgres.dagster, (Need.SCHEMA,)),
    Check("kafka", kafka.reachable),
    Check("topics", kafka.topics, (Need.KAFKA,)),
    Check("kafka clock", kafka.clock, (Need.KAFKA,)),
    Check("lag", kafka.lag, (Need.KAFKA, Need.SCHEMA)),
    Check("stopped partitions", kafka.stops, (Need.KAFKA, Need.SCHEMA)),
    Check("redis", redis.reachable),
    Check("redis policy", redis.policy, (Need.REDIS,)),
    Check("redis clock", redis.clock, (Need.REDIS,)),
)
"""In the order in which they are told."""

_TITLES = {"postgres": "Postgres", "kafka": "Kafka", "redis": "Redis"}


def examine(
    found: Installation | None, problems: tuple[str, ...] = (), *, patience: float = PATIENCE
) -> Iterator[Finding]:
    """Every check, in order; those that need a server wait for what is found out about it.

    Args:
        found: the installation; None where the settings have problems.
        problems: these.
        patience: seconds that a check may take.
    """
    if found is None:
        yield from _findings("configuration", list(configuration.refused(problems)))
        yield from _findings("python", list(machine.python(None)))
        reason = remark(
            "nothing else was looked at, because it needs the settings", "mend the configuration first"
        )
        yield from _findings("servers", [reason])
        return
    running = {check.name: _Run(check, found) for check in CHECKS if not check.needs}
    for one in running.values():
        one.start(patience)
    for check in CHECKS:
        if check.name not in running:
            missing = next((need for need in check.needs if not running[need].is_well), None)
            running[check.name] = _Run(check, found)
            if missing is not None:
                running[check.name].skip(missing, is_told=not running[missing].is_idle)
            else:
                running[check.name].start(patience)
    for check in CHECKS:
        yield from _findings(check.name, running[check.name].verdicts())


class _Run:
    """One check, in a thread that nobody waits for longer than its patience."""

    def __init__(self, check: Check, found: Installation) -> None:
        self._check, self._found = check, found
        self._verdicts: list[Verdict] = []
        self._done = threading.Event()
        self._patience = 0.0

    def start(self, patience: float) -> None:
        """Begin; a server that only a running stack has is not asked."""
        self._patience = patience
        if self._asleep():
            return
        threading.Thread(target=self._run, name=self._check.name, daemon=True).start()

    def skip(self, missing: Need, *, is_told: bool) -> None:
        """Say why it is not looked at, unless what is missing has said that there is nothing to look at."""
        if not is_told:
            self._verdicts = []
        elif missing is Need.SCHEMA:
            self._verdicts = [
                remark(
                    "not looked at, because the schema is not that of this release", "see the check `schema`"
                )
            ]
        else:
            self._verdicts = [
                remark(
                    f"not looked at, because {_TITLES[missing]} cannot be asked", f"see the check `{missing}`"
                )
            ]
        self._done.set()

    @property
    def is_well(self) -> bool:
        """Whether checks that need this one make sense."""
        return bool(found := self.verdicts()) and any(one.level is Level.OK for one in found)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to look at: a server that is not meant to run now."""
        return all(one.level is Level.REMARK for one in self.verdicts())

    def verdicts(self) -> list[Verdict]:
        """What was found, once it is over, or what there is when time is up."""
        if self._done.wait(self._patience):
            return self._verdicts
        late = problem(
            f"no answer within {self._patience:g} s", "look at the server, and at the network between"
        )
        return [*self._verdicts, late]

    def _asleep(self) -> bool:
        name = self._check.name
        settings = self._found.settings
        off = {"kafka": not settings.kafka.enabled, "redis": not settings.redis.enabled}
        if off.get(name):
            self._verdicts = [
                remark(f"not looked at: {name}.enabled is false", f"set {name}.enabled: true to use it")
            ]
        elif name in _TITLES and self._found.is_asleep(name):
            self._verdicts = [
                remark(
                    f"the embedded {_TITLES[name]} is not running",
                    "`analytics up` starts it, or name a server of yours",
                )
            ]
        else:
            return False
        self._done.set()
        return True

    def _run(self) -> None:
        try:
            for verdict in self._check.look(self._found):
                self._verdicts.append(verdict)
        except AnalyticsError as error:
            sentence, _, advice = str(error).partition(": check ")
            self._verdicts.append(
                problem(sentence, f"check {advice}" if advice else "see the server's own log")
            )
        except psycopg.Error as error:
            self._verdicts.append(
                problem(f"Postgres did not answer the question ({error.sqlstate})", "see Postgres' own log")
            )
        except Exception as error:  # noqa: BLE001  (one check that fails must not hide the others)
            self._verdicts.append(
                problem(
                    f"this check failed itself ({type(error).__name__}: {error})", "report it: it is a defect"
                )
            )
        finally:
            self._done.set()


def _findings(name: str, verdicts: list[Verdict]) -> Iterator[Finding]:
    for verdict in verdicts:
        yield Finding(name, *verdict)
