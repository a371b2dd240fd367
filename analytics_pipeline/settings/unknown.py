"""The sentence about a key that does not exist: where it stands, and the nearest that does.

Belongs here: looking for the nearest. Does not belong here: finding unknown keys, which validation does.
"""

from collections.abc import Iterator
from difflib import get_close_matches

from pydantic import BaseModel

Key = tuple[str, ...]

_NEAR = 0.6


def sentence(key: Key, origin: str, root: type[BaseModel]) -> str:
    """What is wrong with a key that `root` has not.

    Args:
        key: section by section.
        origin: the file or variable that it stands in, as a person would name it; empty: not known.
        root: the model of all settings.
    """
    near = nearest(key, list(keys(root)))
    hint = f"did you mean {'.'.join(near)}?" if near else "check its spelling and its section"
    return f"{'.'.join(key)}: is not a known setting{f' in {origin}' if origin else ''}; {hint}"


def nearest(key: Key, known: list[Key]) -> Key | None:
    """The only known key of this name elsewhere, else the one that is spelt most like it in the same section."""
    *section, name = key
    elsewhere = [one for one in known if one[-1] == name]
    if len(elsewhere) == 1:
        return elsewhere[0]
    beside = [one[-1] for one in known if one[:-1] == tuple(section)]
    near = get_close_matches(name.lower(), beside, n=1, cutoff=_NEAR)
    return (*section, near[0]) if near else None


def keys(model: type[BaseModel], above: Key = ()) -> Iterator[Key]:
    """Every section and every key."""
    for name, one in model.model_fields.items():
        yield (*above, name)
        if isinstance(one.annotation, type) and issubclass(one.annotation, BaseModel):
            yield from keys(one.annotation, (*above, name))
