"""How many of what waits are taken at once: as many as fit together.

Belongs here: choosing them. Does not belong here: what they weigh, and why so much is the most.
"""

from collections.abc import Iterable


def fitting(candidates: Iterable[tuple[int, int]], most: int) -> list[int]:
    """The first ids, of (id, weight), that weigh so much together at most; one at least."""
    taken: list[int] = []
    total = 0
    for number, weight in candidates:
        total += weight
        if taken and total > most:
            break
        taken.append(number)
    return taken
