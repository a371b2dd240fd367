"""Generated passwords of the embedded servers, one file each, readable by their owner alone.

Loopback is shared by all users of a machine, and a superuser of Postgres or an administrator of Redis can run
or write what they like as the account of the server: so both ask for a password, also on a laptop.
"""

import os
import secrets
from pathlib import Path


def password(path: Path) -> str:
    """The password kept in `path`, made on first use."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = secrets.token_urlsafe(24)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made + "\n")
        return made
