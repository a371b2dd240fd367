"""Words of commands.

Belongs here: what any command may have to say. Does not belong here: times (`times`), sentences of one command.
"""


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 dead letter`, `1,200 dead letters`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
