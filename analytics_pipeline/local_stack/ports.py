"""TCP ports: whether one is free, and choosing free ones.

Belongs here: sockets. Does not belong here: which setting wants which port (`addresses`).
"""

import socket
from contextlib import closing

_HOST = "127.0.0.1"


def is_free(port: int, host: str = _HOST) -> bool:
    """Whether a server could listen there now (connections that linger from an earlier one do not count)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(taken: frozenset[int] = frozenset(), host: str = _HOST) -> int:
    """A free port the kernel picks, not one of `taken`."""
    while True:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
