"""A question about the books and its answer: the shapes of the proof.

Belongs here: plain values. Does not belong here: any question (`storage.audit`, `storage.audit_tables`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from analytics_pipeline.storage.connection import Connection

MOST_PLACES = 20
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

Values = Mapping[str, Any]
Rows = Sequence[tuple[Any, ...]]


class Place(NamedTuple):
    """Where a balance is broken; None where that part does not apply."""

    problem: str
    source: str
    partition: int | None = None
    first_offset: int | None = None
    next_offset: int | None = None
    batches: tuple[int, ...] = ()


@dataclass
class Check:
    """One question and its answer.

    Attributes:
        name: an identifier.
        question: in words.
        numbers: both sides of the balance, or how much was looked at.
        places: where it is broken, the first `MOST_PLACES` of them.
        broken: how many there are.
    """

    name: str
    question: str
    numbers: dict[str, int]
    places: list[Place] = field(default_factory=list)
    broken: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return self.broken == 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "holds": self.holds, "places": [place._asdict() for place in self.places]}


def judged(
    name: str, question: str, numbers: dict[str, int], rows: Rows, place: Callable[..., Place]
) -> Check:
    """A check whose statement returns broken places, each with the number of all as its last column."""
    return Check(name, question, numbers, [place(*row[:-1]) for row in rows], rows[0][-1] if rows else 0)


def one_row(connection: Connection, statement: str, values: Values) -> tuple[Any, ...]:
    """The only row of a statement."""
    row = connection.execute(statement, values).fetchone()
    assert row is not None
    return tuple(row)
