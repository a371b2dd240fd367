"""Values of events: what an expression of the catalog says of each, rounded, and exact sums of these.

Belongs here: evaluating expressions, rounding, adding up by group. Does not belong here: what the groups are
(`groups`), states (`states`).

Every value is rounded once, to 1e-9, so that sums do not depend on how events are batched.
"""

import re
from decimal import Context, Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics_pipeline.rollups.catalog import NUMBER_FIELDS, TEXT_FIELDS
from analytics_pipeline.rollups.engine import engine
from analytics_pipeline.rollups.expressions import PLAIN
from analytics_pipeline.rollups.facts import Integers, Part

Floats = npt.NDArray[np.float64]

_LIMIT = 1e18
"""Larger magnitudes are skipped: sums must fit DECIMAL(38, 9)."""
_UNITS = 1e9
"""A rounded value is a whole number of these parts."""
_EXACT = Context(prec=60)
"""More digits than a sum can have: Decimal's default would round."""
_LANE = 32


class Values(NamedTuple):
    """What events have of a value.

    Attributes:
        where: which of the events have one, ascending.
        billionths: of each of these, the value.
        skipped: which have something in its place that cannot be added up.
    """

    where: Integers
    billionths: Floats
    skipped: Integers

    @property
    def numbers(self) -> Floats:
        """The rounded values; zero has no sign."""
        return self.billionths / _UNITS + 0.0


class Sums(NamedTuple):
    """Of each group: how many values, their sum in billionths, the smallest and the largest."""

    counts: Integers
    totals: list[int]
    least: Floats
    most: Floats


def evaluate(part: Part, expression: str) -> Values:
    """The value of each event that has one: a number of at most 1e18.

    Args:
        part: the events.
        expression: DuckDB SQL over the fields of the catalog. Sums and products of fields cost no statement.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return rounded(
            *(_plain(part, expression) if PLAIN.fullmatch(expression) else _asked(part, expression))
        )


def rounded(values: Floats, is_missing: npt.NDArray[np.bool_]) -> Values:
    """Round to 1e-9, halves away from zero, as a cast to DECIMAL(38, 9) does.

    What is missing is no value, and nothing is skipped; what is no number (NaN) or too large is skipped.
    """
    is_value = np.abs(values) <= _LIMIT
    where = np.flatnonzero(is_value)
    scaled = values[where] * _UNITS
    whole = np.trunc(scaled)
    billionths = whole + np.copysign(np.abs(scaled - whole) >= 0.5, scaled)
    return Values(where, billionths, np.flatnonzero(~(is_value | is_missing)))


def add_up(values: Values, groups: Integers, size: int) -> Sums:
    """Add up by group.

    Args:
        values: those to add.
        groups: of each of them, its group.
        size: how many groups there are; those without values have a count of 0.
    """
    counts = np.bincount(groups, minlength=size)
    least, most = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(least, groups, values.numbers)
    np.maximum.at(most, groups, values.numbers)
    return Sums(counts, _totals(values.billionths, groups, size), least, most)


def decimal(billionths: int) -> Decimal:
    """The sum itself."""
    return _EXACT.scaleb(Decimal(billionths), -9)


def _totals(billionths: Floats, groups: Integers, size: int) -> list[int]:
    """Exact sums of whole numbers up to 1e27: in lanes of 32 bits where 64 may not hold them."""
    if np.abs(billionths).sum() < 2.0**62:
        return _lane(billionths, groups, size)
    high = np.trunc(billionths / 2.0 ** (2 * _LANE))
    rest = billionths - high * 2.0 ** (2 * _LANE)
    middle = np.trunc(rest / 2.0**_LANE)
    lanes = (_lane(one, groups, size) for one in (high, middle, rest - middle * 2.0**_LANE))
    return [(h << 2 * _LANE) + (m << _LANE) + low for h, m, low in zip(*lanes, strict=True)]


def _lane(numbers: Floats, groups: Integers, size: int) -> list[int]:
    found = np.zeros(size, np.int64)
    np.add.at(found, groups, numbers.astype(np.int64))
    return found.tolist()


def _plain(part: Part, expression: str) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Fields, added and multiplied from left to right, products first; with it, where one of them is missing."""
    total = np.zeros(len(part.rows))
    is_missing = np.zeros(len(part.rows), bool)
    for sign, product in re.findall(r"(^|[-+] )((?:[a-z_]+(?: \* )?)+)", expression):
        found = np.ones(len(part.rows))
        for name in product.split(" * "):
            found = found * part.numbers(name)
            is_missing |= np.isnan(part.numbers(name))
        total = total - found if sign == "- " else total + found
    return total, is_missing


def _asked(part: Part, expression: str) -> tuple[Floats, npt.NDArray[np.bool_]]:
    names = set(re.findall(r"\w+", expression))
    texts = {
        name: pa.array(part.coded(name).values, pa.string()).take(pa.array(part.coded(name).codes))
        for name in TEXT_FIELDS
        if name in names
    }
    numbers = {
        name: pa.array(part.numbers(name), from_pandas=True) for name in NUMBER_FIELDS if name in names
    }
    db = engine()
    db.register("facts", pa.table(texts | numbers))
    try:
        found = db.sql(f"SELECT ({expression})::DOUBLE AS value FROM facts").to_arrow_table()  # noqa: S608  (a declaration)
    finally:
        db.unregister("facts")
    values = found.column("value").combine_chunks()
    return values.to_numpy(zero_copy_only=False), values.is_null().to_numpy(zero_copy_only=False)
