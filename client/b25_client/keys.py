"""The API key: from an argument, else from the environment.

Belongs here: finding and checking it. Does not belong here: how it travels (`rest`, `transport`).
"""

import os
import re

VARIABLE = "ANALYTICS_API_KEY"
"""Environment variable that holds the key where no argument does."""


def find_api_key(api_key: str | None) -> str | None:
    """A key that can travel in a header, or None; an empty variable counts as absent.

    Raises:
        ValueError: it cannot; the text does not repeat it.
    """
    found = api_key if api_key is not None else os.environ.get(VARIABLE) or None  # noqa: TID251  (the service's are)
    if found is not None and not re.fullmatch(r"[!-~]+", found):
        raise ValueError("api_key: printable ASCII characters without spaces, as the service showed it")
    return found
