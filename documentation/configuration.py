"""The tables of `docs/configuration.md`: every key with its default, its variable, its limits and its meaning.

Belongs here: what follows from `settings`, where the meaning of a key stands below it.
"""

from collections.abc import Iterator
from datetime import timedelta

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from analytics_pipeline.settings import ORIGINAL_VARIABLES, PREFIX, Section, Settings
from documentation.markdown import code, table

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def tables() -> str:
    """Markdown, a heading and a table for each section."""
    lines: list[str] = []
    for name, section in _sections(Settings(), ""):
        rows = [_row(key, field, value) for key, field, value in _keys(section, f"{name}.")]
        lines += ["", f"## {name}", "", *table(("key", "default", "meaning", "variable"), rows)]
    return "\n".join(lines) + "\n"


def _sections(section: Section, prefix: str) -> Iterator[tuple[str, Section]]:
    """Those with keys of their own; one within a section stays in its table unless the section has nothing else."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            if all(isinstance(getattr(value, one), Section) for one in type(value).model_fields):
                yield from _sections(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value


def _keys(section: Section, prefix: str) -> Iterator[tuple[str, FieldInfo, object]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name, field, value


def _row(key: str, field: FieldInfo, value: object) -> tuple[str, ...]:
    if not field.description:
        raise LookupError(f"{key}: write below the key, in its section of settings, what it means")
    bounds = _bounds(field)
    meaning = field.description.rstrip(".") + (f" ({bounds})" if bounds else "")
    return code(key), _shown(value), meaning, ", ".join(map(code, _variables(key)))


def _variables(key: str) -> Iterator[str]:
    yield PREFIX + key.replace(".", "__").upper()
    yield from (name for name, path in ORIGINAL_VARIABLES.items() if ".".join(path) == key)


def _shown(value: object) -> str:
    match value:
        case None | [] | {}:
            return "–"
        case SecretStr() if not value:
            return "–"
        case bool():
            return code(str(value).lower())
        case timedelta():
            return code(_duration(value))
        case list():
            return code(", ".join(value))
        case _:
            return code(str(value))


def _duration(value: timedelta) -> str:
    """In the largest unit that leaves no rest; days are never weeks."""
    seconds = value.total_seconds()
    for size, unit in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds) // size}{unit}"
    return f"{round(seconds * 1000)}ms"


def _bounds(field: FieldInfo) -> str:
    """`1 to 64`, where numbers are bounded on both sides; of durations the text tells."""
    low, high = (_bound(field, *names) for names in (("ge", "gt"), ("le", "lt")))
    if low is None or high is None or (low, high) == (0, 65535):
        return ""
    return f"{low:,} to {high:,}"


def _bound(field: FieldInfo, *names: str) -> int | float | None:
    found = [getattr(one, name) for one in field.metadata for name in names if hasattr(one, name)]
    return next((one for one in found if isinstance(one, int | float)), None)
