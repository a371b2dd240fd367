"""Checks of Postgres: the server, its clock, the schema, partitions, rights, keys, Dagster's storage.

Belongs here: judging. Does not belong here: the questions (`storage`).
"""

from collections.abc import Iterator
from datetime import timedelta

from analytics_pipeline.doctor.clocks import judge_clock
from analytics_pipeline.doctor.findings import Verdict, ok, problem, remark
from analytics_pipeline.doctor.installation import Installation
from analytics_pipeline.errors import SchemaMismatch
from analytics_pipeline.storage import server
from analytics_pipeline.storage.api_keys import list_keys
from analytics_pipeline.storage.migrations import available, check_schema
from analytics_pipeline.storage.partitions import missing_days
from analytics_pipeline.storage.tolerances import SILENT_SECONDS

_OLDEST = 140_000
_FEW_CONNECTIONS = 20
_MIGRATE = "run `analytics migrate`"


def reachable(found: Installation) -> Iterator[Verdict]:
    """The server and its settings."""
    with found.postgres() as opened:
        known = server.server(opened)
    if known.number < _OLDEST:
        yield problem(f"PostgreSQL {known.version} is too old", "use PostgreSQL 14 or newer")
    if known.is_standby:
        yield problem("this Postgres is a standby and takes no writes", "name its primary in database.host")
    if not known.is_durable:
        yield problem(
            "fsync is off: a crash of the machine may lose everything", "ALTER SYSTEM SET fsync = on"
        )
    if not known.is_synchronous:
        yield remark(
            "synchronous_commit is off: a crash may lose the last moments that were answered with 201",
            "ALTER SYSTEM SET synchronous_commit = on",
        )
    free = known.connections - known.connected
    if free < _FEW_CONNECTIONS:
        yield remark(
            f"only {free} of {known.connections} connections are free",
            "raise max_connections, or put fewer programs on it",
        )
    yield ok(f"PostgreSQL {known.version}, {known.connected} of {known.connections} connections in use")


def clock(found: Installation) -> Iterator[Verdict]:
    """Its clock against ours: lateness, grace and retention compare the two."""
    with found.postgres() as opened:
        yield judge_clock("Postgres", lambda: server.clock(opened), found.now)


def schema(found: Installation) -> Iterator[Verdict]:
    """Migrations that are pending, or unknown to this program."""
    with found.postgres() as opened:
        try:
            check_schema(opened)
        except SchemaMismatch as mismatch:
            sentence, _, advice = str(mismatch).rpartition(": ")
            yield problem(sentence, advice)
            return
    newest = available()[-1]
    yield ok(f"the schema is at migration {newest.name}, the newest")


def partitions(found: Installation) -> Iterator[Verdict]:
    """Days of events that could not be stored."""
    wanted = found.settings.analytics.retention.partitions_ahead
    maintain = "run `analytics maintain`, and see why Dagster's job `maintenance` did not"
    with found.postgres() as opened:
        missing = missing_days(opened, now=found.now(), ahead_days=wanted)
    today = found.now().date()
    soon = [day for day in missing if day <= today + timedelta(days=1)]
    if soon:
        yield problem(f"events of {', '.join(map(str, soon))} have no partition to land in", maintain)
    elif missing and missing[0] <= today + timedelta(days=wanted - 1):
        yield remark(f"events have partitions up to the day before {missing[0]} alone", maintain)
    else:
        yield ok(
            f"events have a partition for every day up to {today + timedelta(days=wanted - bool(missing))}"
        )


def roles(found: Installation) -> Iterator[Verdict]:
    """Our own role, and those that may read events."""
    with found.postgres() as opened:
        own, others = server.rights(opened), server.readers(opened)
    if own.is_superuser:
        yield remark(
            f"the role {own.role} is a superuser", "give the product a role of its own that owns its database"
        )
    for allowed, words, statement in (
        (own.owns_tables, "create partitions", f"GRANT {own.owner} TO {own.role}"),
        (own.creates_tables, "create tables", f"GRANT CREATE ON SCHEMA {own.schema} TO {own.role}"),
        (own.creates_temporary, "create temporary tables", f"GRANT TEMPORARY ON DATABASE … TO {own.role}"),
    ):
        if not allowed:
            yield problem(f"the role {own.role} may not {words}", statement)
    for one in others:
        yield from _reader(one)
    names = ", ".join(one.role for one in others)
    if own.owns_tables and own.creates_tables and own.creates_temporary:
        reading = f"{names} may read" if names else "nobody else may read"
        yield ok(f"the role {own.role} may do what it must; {reading}")


def _reader(one: server.Reader) -> Iterator[Verdict]:
    if one.may_write:
        yield remark(
            f"the role {one.role} may write events, which would be in no ledger and no metric",
            f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON events FROM {one.role}",
        )
    if one.unreadable:
        tables = ", ".join(one.unreadable)
        yield remark(
            f"the role {one.role} may read events, but not {tables}",
            f"GRANT SELECT ON {tables} TO {one.role}",
        )
    if not one.has_timeout:
        yield remark(
            f"a query of the role {one.role} may run for ever and hold up maintenance",
            f"ALTER ROLE {one.role} SET statement_timeout = '60s'",
        )


def keys(found: Installation) -> Iterator[Verdict]:
    """Whether anybody has a key, where the API asks for one."""
    if not found.settings.security.api_key_enabled:
        yield ok("the API asks for no key")
        return
    now = found.now()
    with found.postgres() as opened:
        states = [key.state(now) for key in list_keys(opened)]
    if "active" in states:
        yield ok(f"{states.count('active')} keys are active")
    else:
        yield problem(
            "the API asks for a key, and there is none that holds",
            "`analytics keys create NAME --scope admin`",
        )


def dagster(found: Installation) -> Iterator[Verdict]:
    """Dagster's tables, and whether its daemon lives: without it nothing is merged."""
    name = found.settings.dagster.schema_name
    with found.postgres() as opened:
        known = server.dagster_storage(opened, name)
    if not known.has_tables:
        yield problem(f"Dagster has no tables in the schema {name}", _MIGRATE)
    elif known.heartbeat is None:
        yield remark(
            "no daemon of Dagster has ever run: rollups are not merged", "start `dagster-daemon run`"
        )
    elif (silent := found.now() - known.heartbeat).total_seconds() > SILENT_SECONDS:
        minutes = silent.total_seconds() / 60
        yield remark(
            f"no daemon of Dagster gave a sign of life for {minutes:,.0f} minutes: rollups are not merged",
            "`analytics start dagster-daemon`, or `analytics up`, or `dagster-daemon run`; see its log",
        )
    else:
        yield ok(f"Dagster's tables are in the schema {name}, its daemon lives")
