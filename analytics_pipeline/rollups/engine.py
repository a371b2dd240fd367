"""DuckDB as rollups use it: one engine a thread.

Belongs here: how it is set up. Does not belong here: any statement.
"""

import threading

import duckdb

_local = threading.local()


def engine() -> duckdb.DuckDBPyConnection:
    """This thread's DuckDB: one thread, UTC, in memory."""
    if not hasattr(_local, "engine"):
        _local.engine = duckdb.connect(config={"threads": 1, "memory_limit": "1GB"})
        _local.engine.execute("SET TimeZone = 'UTC'")
    return _local.engine  # type: ignore[no-any-return]
