"""The audit log: which key wrote what, over REST and, for keys and deleted definitions, by command.

Belongs here: the statements. Does not belong here: gathering lines (`api.audit`), books that balance (`storage.audit`).
"""

from datetime import datetime
from typing import NamedTuple

from analytics_pipeline.storage.connection import Connection

WRITE = """
INSERT INTO audit_log (at, key_id, method, route, status, request_id, subject, requests)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
READ = """
SELECT id, at, key_id, method, route, status, request_id, subject, requests FROM audit_log
WHERE at >= %(start)s AND at < %(end)s AND id < %(before)s
    AND (%(key_id)s::text IS NULL OR key_id = %(key_id)s)
ORDER BY id DESC
LIMIT %(limit)s
"""
FORGET = """
DELETE FROM audit_log WHERE id = ANY(ARRAY(
    SELECT id FROM audit_log WHERE at < %s ORDER BY at LIMIT %s FOR UPDATE SKIP LOCKED
))
"""
COMMAND = "CLI"
"""`method` of lines that are no requests."""


class Line(NamedTuple):
    """A request that wrote, or several alike."""

    at: datetime
    key_id: str | None
    method: str
    route: str
    status: int
    request_id: str
    subject: str | None = None
    requests: int = 1


def write_command(connection: Connection, now: datetime, command: str, subject: str) -> None:
    """Note a command of `analytics`, in the caller's transaction."""
    connection.execute(WRITE, Line(now, None, COMMAND, command, 0, "", subject))
