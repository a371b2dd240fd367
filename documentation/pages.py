"""Which files `make docs` writes, and what is in each; a test compares them with what stands in `docs/`.

Belongs here: the list. Does not belong here: what a page says.
"""

from collections.abc import Iterator
from pathlib import Path

from analytics_pipeline.cli import page as commands
from analytics_pipeline.rollups import catalog_page
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.storage.connection import Connection
from documentation import configuration, reasons, rest, series, tables
from documentation.markdown import with_region
from documentation.pictures import PICTURES

FOLDER = Path(__file__).resolve().parent.parent / "docs"


def of_code(folder: Path = FOLDER) -> Iterator[tuple[str, str]]:
    """Name and text of everything that follows from the code alone; of regions, the page that is there around them."""
    yield "metrics-catalog.md", catalog_page.page(BUILT_IN)
    yield "cli.md", commands.page()
    yield "series.md", series.page()
    yield "rest.md", rest.page()
    for name, region, text in (
        ("configuration.md", "keys", configuration.tables()),
        ("dead-letters.md", "reasons", reasons.codes()),
    ):
        yield name, with_region((folder / name).read_text(encoding="utf-8"), region, text)
    for name, draw in PICTURES.items():
        yield f"pictures/{name}.svg", draw().svg()


def of_database(connection: Connection) -> Iterator[tuple[str, str]]:
    """Name and text of what a migrated database says of itself."""
    yield "tables.md", tables.page(connection)
