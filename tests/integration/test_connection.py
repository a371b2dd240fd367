"""What a connection that fails says to do about it."""

import socket
import tempfile
import threading
from contextlib import suppress

import pytest
from psycopg.conninfo import make_conninfo

from analytics_pipeline.storage.connection import Unreachable, connect


def advice(conninfo: str) -> str:
    with pytest.raises(Unreachable) as failed:
        connect(conninfo, name="test")
    return str(failed.value).removeprefix(failed.value.sentence)


def test_a_password_a_role_and_a_database_that_are_wrong_are_told_by_their_settings(database: str) -> None:
    for wrong in ({"password": "wrong"}, {"user": "nobody"}, {"dbname": "none"}, {"password": ""}):
        told = advice(make_conninfo(database, **wrong))
        assert told.startswith(": check database.user, database.password or database.password_file"), wrong


def test_a_server_that_is_away_is_told_by_its_address() -> None:
    for host in ("127.0.0.1", "nowhere.invalid", "/nowhere"):
        told = advice(f"host={host} port=1 user=a dbname=b connect_timeout=2")
        assert told.startswith(": check database.host and database.port"), host


@pytest.mark.parametrize("is_local", [False, True])
def test_a_server_that_is_there_and_full_says_so_itself(is_local: bool) -> None:
    """It refuses before it asks for a password, as one does that has no connection left or still starts."""
    with tempfile.TemporaryDirectory(prefix="b25-", dir="/tmp") as folder:  # a socket's path has to be short
        if is_local:
            refusing = socket.socket(socket.AF_UNIX)
            refusing.bind(f"{folder}/.s.PGSQL.5432")
            refusing.listen()
            address = f"host={folder} port=5432"
        else:
            refusing = socket.create_server(("127.0.0.1", 0))
            address = f"host=127.0.0.1 port={refusing.getsockname()[1]}"

        def refuse() -> None:
            text = b"SFATAL\0C53300\0Msorry, too many clients already\0\0"
            for _ in range(2):  # the connection, and the look whether anybody listens
                taken, _ = refusing.accept()
                with taken, suppress(OSError):
                    taken.recv(1024)
                    taken.sendall(b"E" + (len(text) + 4).to_bytes(4, "big") + text)

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        with refusing:
            with pytest.raises(Unreachable, match=r"too many clients already$"):
                connect(f"{address} user=a dbname=b sslmode=disable gssencmode=disable", name="test")
            thread.join(5)
