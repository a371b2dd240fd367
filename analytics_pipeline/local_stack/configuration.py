"""The configuration that the processes of a stack read: a copy, made when the stack starts.

A process that died is started again by itself, whatever becomes of the file meanwhile: a mistake that somebody types
into it must not keep ingest away. `analytics restart` and `start` are a person's wish, so they take a newer file over.

Belongs here: the copy. Does not belong here: what settings mean (`settings`).
"""

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.local_stack.state import StateFolder, replace_privately
from analytics_pipeline.settings import load_settings, used_file


def keep(folder: StateFolder) -> None:
    """Copy the file that this process reads, closed to others because it may hold secrets; an empty one for none."""
    file = used_file()
    replace_privately(folder.config, file.read_bytes() if file is not None else b"")


def renew(folder: StateFolder) -> tuple[str, ...]:
    """Copy it anew, unless it has mistakes: these are returned, and the older copy stays."""
    try:
        load_settings()
    except ConfigurationError as error:
        return error.problems
    keep(folder)
    return ()
