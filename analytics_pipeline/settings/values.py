"""What a setting can be: durations, lists, ports; and a section of the file."""

import json
import re
from datetime import timedelta
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Level = Literal["1m", "5m", "15m", "1h", "1d"]
"""Width of a bucket."""
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def parse_duration(value: object) -> timedelta:
    """Read `250ms`, `30s`, `1h30m`, `90d` or `2w`.

    A `timedelta` passes unchanged.

    Raises:
        ValueError: anything else, a bare number included, because its unit would be a guess.
    """
    if isinstance(value, timedelta):
        return value
    text = str(value).strip()
    if not text or _DURATION.sub("", text):
        raise ValueError("write a duration with its unit, like 250ms, 30s, 5m, 1h30m or 90d")
    return timedelta(seconds=sum(float(n) * _UNITS[u] for n, u in _DURATION.findall(text)))


def write_duration(value: timedelta) -> str:
    """The opposite of `parse_duration`, to the millisecond: `1h30m`."""
    left, text = value // timedelta(milliseconds=1), ""
    for unit, millis in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, left = divmod(left, millis)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _read_json(value: object) -> object:
    """Allow a JSON object where a mapping is expected, for environment variables."""
    return json.loads(value) if isinstance(value, str) else value


def _read_levels(value: object) -> object:
    """Allow a JSON object, and refuse what is no mapping of intervals to durations in one sentence."""
    try:
        found = _read_json(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("write durations by interval, like {1h: 5m, 1d: 1h}")
    if unknown := [str(level) for level in found if level not in get_args(Level)]:
        raise ValueError(f"{', '.join(unknown)} is not one of {', '.join(get_args(Level))}")
    return found


def split_list(value: object) -> object:
    """Allow `a,b` where a list is expected: environment variables have no lists."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _keep_something(value: timedelta) -> timedelta:
    """Refuse what would remove everything: 0 is no way to write *for ever*."""
    if value < timedelta(hours=1):
        raise ValueError(
            "keep it for at least 1h; what should stay for ever takes a long time, such as 36500d"
        )
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Kept = Annotated[timedelta, BeforeValidator(parse_duration), AfterValidator(_keep_something)]
"""How long something is kept."""
TextList = Annotated[list[str], BeforeValidator(split_list)]
Options = Annotated[dict[str, str | int | float | bool], BeforeValidator(_read_json)]
DurationsByLevel = Annotated[dict[Level, Duration], BeforeValidator(_read_levels)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """One section of the file; an unknown key is a problem, because it is most often a misspelt one.

    The text below a key is what `docs/configuration.md` says about it.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True, use_attribute_docstrings=True)
