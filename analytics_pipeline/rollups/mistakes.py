"""Mistakes in the file of the catalog that Python itself finds: said in one sentence, as wrong declarations are.

Belongs here: whose mistake an error is that loading the catalog raised. Does not belong here: rules of declarations
(`declarations`).
"""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
CATALOG = Path(__file__).with_name("catalog.py")


def sentence(error: Exception) -> str | None:
    """What is wrong in the file of the catalog, with the line to mend; None where the mistake is not there.

    It is there if Python cannot parse that file, or if of this package the last code that ran is in it.
    """
    if isinstance(error, SyntaxError):
        place, line = Path(error.filename or ""), error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [one for one in frames if Path(one.filename).is_relative_to(_PACKAGE)]
        if not own:
            return None
        place, line = Path(own[-1].filename), own[-1].lineno
    if place != CATALOG:
        return None
    return f"{place}:{line}: mend this line, or the one before it; Python says: {_words(error)}"


def _words(error: Exception) -> str:
    """What Python says, and the nearest name there is: only some releases of Python tell it beside a traceback."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    names: Iterable[str] = ()
    wanted = None
    if isinstance(error, AttributeError) and isinstance(error.obj, type):
        wanted, names = error.name, dir(error.obj)
        said = (
            f"{error.obj.__name__} has no attribute {wanted!r}"  # of an enum some releases say the name alone
        )
    elif isinstance(error, NameError) and error.__traceback__ is not None:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        wanted, names = error.name, frame.f_globals
    near = difflib.get_close_matches(wanted or "", names, n=1)
    hint = f": did you mean {near[0]}?" if near else ""
    return " ".join(f"{type(error).__name__}: {said}{hint}".split())
