"""Sums and differences of the decimals that doubles stand for, so that 0.1 and 0.2 are 0.3.

Belongs here: arithmetic whose result is the double next to the true one. Does not belong here: what is added up
(`carried`, `folding`), or rounding values of events (`analytics_pipeline.rollups.values`).
"""

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from api.metrics.values import Numbers

Billionths = npt.NDArray[Any]
"""Whole numbers of 1e-9: int64, or Python's own where sums of these may be larger."""

_UNIT = 10**9
_SURE = 2.0**51 / _UNIT
"""Below this magnitude a double times 1e9 is less than half a unit away from the decimal."""
_EXACT = 2.0**53
_ROOM = 2.0**62


def to_billionths(values: Numbers) -> Billionths:
    """Finite values as whole numbers, whose sums are exact however many of them are added."""
    rounded = np.rint(values * _UNIT)
    is_large = np.abs(values) >= _SURE
    has_room = np.abs(values).sum() * _UNIT < _ROOM
    found: Billionths = (
        rounded.astype(np.int64) if has_room else np.array([int(one) for one in rounded], object)
    )
    for place in np.flatnonzero(is_large).tolist():
        found[place] = int((Decimal(repr(float(values[place]))) * _UNIT).to_integral_value())
    return found


def from_billionths(found: Billionths) -> Numbers:
    """The double next to each."""
    if found.dtype == np.int64 and np.abs(found).max(initial=0) < _EXACT:
        quotient: Numbers = found / _UNIT
        return quotient
    return np.array([one / _UNIT for one in found.tolist()], np.float64)


def differences(values: Numbers, earlier: Numbers) -> Numbers:
    """`values - earlier`; NaN where there is one alone."""
    found = values - earlier
    for place in np.flatnonzero(np.isfinite(found)).tolist():
        found[place] = Decimal(repr(float(values[place]))) - Decimal(repr(float(earlier[place])))
    return found
