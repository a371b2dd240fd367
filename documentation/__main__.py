"""Write the pages: `python -m documentation` those that follow from the code, `python -m documentation tables` the one
that a migrated database tells, from an embedded Postgres that lives as long as that takes.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from analytics_pipeline.local_stack.child import Child
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.storage.connection import connect
from analytics_pipeline.storage.migrations import migrate
from documentation import pages


def _write(files: Iterable[tuple[str, str]]) -> None:
    for name, text in files:
        path = pages.FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"docs/{name} is written")  # noqa: T201 - a command


def _write_tables() -> None:
    folder = Path(tempfile.mkdtemp(prefix="b25-docs-", dir="/tmp"))
    postgres = Postgres(folder / "postgres", port=free_port(), is_durable=False)
    service = postgres.service()
    service.prepare(lambda _: None)
    child = Child(service, folder)
    child.start()
    try:
        child.wait_until_ready()
        service.once_ready()
        with connect(postgres.conninfo(), name="documentation") as connection:
            migrate(connection)
            _write(pages.of_database(connection))
    finally:
        child.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["tables"]:
        _write_tables()
    else:
        _write(pages.of_code())
