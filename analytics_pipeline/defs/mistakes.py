"""What a person has to mend fails a run at once, in one sentence, and is not retried.

Belongs here: turning the product's errors into Dagster's. Does not belong here: which errors there are (`errors`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from analytics_pipeline.errors import ConfigurationError, InvariantBroken


@contextmanager
def not_retried() -> Iterator[None]:
    """Fail for good on a wrong run config, and where numbers contradict themselves; faults outside pass, to be retried.

    Raises:
        Failure: instead of `ConfigurationError` and `InvariantBroken`.
    """
    try:
        yield
    except (ConfigurationError, InvariantBroken) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
