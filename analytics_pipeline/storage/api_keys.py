"""Keys of the REST API, and sessions that browsers got for one.

Belongs here: making a key, its text and its hash, the statements, for the command line and for the API alike.
Does not belong here: judging requests (`api.access`), what was written with a key (`storage.audit_log`).

A key is `b25_<id>_<secret>`. Its secret has 192 random bits, so one round of SHA-256 keeps it: there is nothing to
guess. It is shown when it is made and can never be shown again.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import class_row

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.reach import Reach, reach
from analytics_pipeline.storage.connection import Connection

CHANNEL = "api_keys"
SCOPES = ("read", "write", "admin")
MOST_NAME = 255
MOST_SESSIONS = 100
"""Of one key; the oldest go."""

_KEY = re.compile(rb"b25_([0-9a-f]{12})_[0-9a-f]{48}")
_ID = re.compile(r"[0-9a-f]{12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_COLUMNS = """
id, name, scopes, event_types, dimensions, created_at, expires_at, revoked_at, last_used_at
"""
CREATE = f"""
INSERT INTO api_keys (id, name, hash, scopes, event_types, dimensions, expires_at)
VALUES (%(id)s, %(name)s, %(hash)s, %(scopes)s, %(event_types)s, %(dimensions)s::jsonb, %(expires_at)s)
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants only
_LOCK = "LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE"
_IS_ANY = "SELECT EXISTS (SELECT FROM api_keys)"
LIST = f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, id"  # noqa: S608 - constants only
REVOKE = f"""
UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = %s RETURNING {_COLUMNS}
"""  # noqa: S608 - constants only
VALID = """
SELECT id, hash, scopes, event_types, dimensions, expires_at FROM api_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
"""
"""What a process needs to judge requests: keys that are neither revoked nor expired."""
VALID_SESSIONS = "SELECT hash, key_id, expires_at FROM api_sessions WHERE expires_at > clock_timestamp()"
USED = "UPDATE api_keys SET last_used_at = %s WHERE id = ANY(%s)"
OPEN_SESSION = "INSERT INTO api_sessions (hash, key_id, expires_at) VALUES (%s, %s, %s)"
LIMIT_SESSIONS = """
DELETE FROM api_sessions WHERE hash IN (
    SELECT hash FROM api_sessions WHERE key_id = %s ORDER BY created_at DESC OFFSET %s
)
"""
CLOSE_SESSION = "DELETE FROM api_sessions WHERE hash = %s"
FORGET_SESSIONS = "DELETE FROM api_sessions WHERE expires_at <= %s"


class ApiKey(NamedTuple):
    """A key as everybody may see it."""

    id: str
    name: str
    scopes: list[str]
    event_types: list[str] | None
    dimensions: dict[str, list[str]]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now: datetime) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@dataclass(frozen=True)
class NewKey:
    """A key that is about to be stored; `text` is the key itself and leaves this process once."""

    id: str
    text: str
    name: str
    scopes: tuple[str, ...]
    reach: Reach
    expires_at: datetime | None

    def __repr__(self) -> str:
        """Without the key."""
        return f"NewKey({self.id})"

    def row(self) -> dict[str, Any]:
        """The values of `CREATE`."""
        return {
            "id": self.id,
            "name": self.name,
            "hash": hash_of(self.text.encode()),
            "scopes": list(self.scopes),
            "event_types": None if self.reach.event_types is None else list(self.reach.event_types),
            "dimensions": json.dumps(dict(self.reach.dimensions)),
            "expires_at": self.expires_at,
        }


def new_key(
    name: str,
    scopes: Sequence[str],
    *,
    now: datetime,
    expires_at: datetime | None = None,
    event_types: Sequence[str] | None = None,
    dimensions: Mapping[str, Sequence[str]] | None = None,
) -> NewKey:
    """Make a key.

    Args:
        name: for people.
        scopes: of `SCOPES`; `admin` includes the others.
        now: it has to expire after this.
        expires_at: None: never.
        event_types: see `events.reach`; None: all.
        dimensions: see `events.reach`.

    Raises:
        ConfigurationError: a sentence for everything that is wrong; it repeats nothing that was given.
    """
    problems: list[str] = []
    if not name.strip() or len(name) > MOST_NAME or _CONTROL.search(name):
        problems.append(f"name: 1 to {MOST_NAME} characters, no control characters")
    if not scopes or not set(scopes) <= set(SCOPES):
        problems.append(f"scopes: at least one of {', '.join(SCOPES)}")
    if expires_at is not None and expires_at <= now:
        problems.append("expires_at: is not in the future")
    part = Reach()
    try:
        part = reach(event_types, dimensions or {})
    except ConfigurationError as error:
        problems += error.problems
    if "admin" in scopes and not part.is_everything:
        problems.append("scopes: a key with event types or dimensions cannot be admin, which sees everything")
    if problems:
        raise ConfigurationError(*problems)
    key_id = secrets.token_hex(6)
    text = f"b25_{key_id}_{secrets.token_hex(24)}"
    return NewKey(key_id, text, name, tuple(one for one in SCOPES if one in scopes), part, expires_at)


def hash_of(text: bytes) -> bytes:
    """What is stored of a key, or of a session."""
    return hashlib.sha256(text).digest()


def id_of(text: bytes) -> str | None:
    """The id inside a key; None if this cannot be a key."""
    found = _KEY.fullmatch(text)
    return None if found is None else found[1].decode()


def create_key(connection: Connection, key: NewKey) -> ApiKey:
    """Store a key; the caller commits, and then every process knows it."""
    [stored] = _rows(connection, CREATE, key.row())
    return stored


def create_first_key(connection: Connection, key: NewKey) -> ApiKey | None:
    """Store a key unless there has ever been one: however many try at once, one succeeds. The caller commits."""
    connection.execute(_LOCK)
    if connection.execute(_IS_ANY).fetchall()[0][0]:
        return None
    return create_key(connection, key)


def list_keys(connection: Connection) -> list[ApiKey]:
    """All keys, oldest first."""
    return _rows(connection, LIST)


def revoke_key(connection: Connection, key_id: str) -> ApiKey:
    """End a key for good; the caller commits. Revoking it again changes nothing.

    Raises:
        ConfigurationError: there is none of this id.
    """
    found = _rows(connection, REVOKE, (key_id,)) if _ID.fullmatch(key_id) else []
    if not found:
        raise ConfigurationError("there is no key of this id; `analytics keys list` shows all")
    return found[0]


def _rows(connection: Connection, statement: str, values: Any = None) -> list[ApiKey]:
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        return cursor.execute(statement, values).fetchall()
