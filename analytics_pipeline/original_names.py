"""The original service's names of settings, so that its `config.yaml` works as it is.

Belongs here: names that are others here, and keys that nothing reads. Does not belong here: what a setting means
(`settings`).
"""

from collections.abc import Mapping
from typing import Any

Key = tuple[str, ...]

RENAMED: Mapping[Key, Key] = {
    ("database", "connection_lifetime"): ("database", "connection_max_lifetime"),
    ("kafka", "consumer_group"): ("kafka", "group_id"),
    ("analytics", "retention", "hour_aggregates"): ("analytics", "retention", "hourly_aggregates"),
}
"""Keys of the original and what they are called here."""

UNUSED: frozenset[Key] = frozenset(
    {
        ("redis", "min_idle_conns"),
        ("kafka", "enable_auto_commit"),
        ("logging", "output"),
        ("logging", "file_path"),
        ("security", "cors", "allowed_methods"),
        ("security", "cors", "allowed_headers"),
    }
)
"""Keys of the original that are accepted, and that nothing reads."""


def with_our_names(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a file in our names; a key that stands there under both stays, to be reported as unknown."""
    found = _without(content, UNUSED)
    for theirs, ours in RENAMED.items():
        section = _section(found, theirs)
        if section is not None and theirs[-1] in section and ours[-1] not in section:
            section[ours[-1]] = section.pop(theirs[-1])
    return found


def _without(content: dict[str, Any], keys: frozenset[Key], at: Key = ()) -> dict[str, Any]:
    return {
        name: _without(value, keys, (*at, name)) if isinstance(value, dict) else value
        for name, value in content.items()
        if (*at, name) not in keys
    }


def _section(content: dict[str, Any], key: Key) -> dict[str, Any] | None:
    """The mapping that holds the key, None where there is none."""
    found: Any = content
    for name in key[:-1]:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None
