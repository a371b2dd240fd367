"""What is retried, and what a person has to mend."""

import dagster as dg
import pytest

from analytics_pipeline.defs.mistakes import not_retried
from analytics_pipeline.errors import ConfigurationError, EnvironmentFault, InvariantBroken


@pytest.mark.parametrize("error", [ConfigurationError("mend it"), InvariantBroken("look at it")])
def test_what_a_person_has_to_mend_fails_for_good_in_its_own_words(error):
    with pytest.raises(dg.Failure) as failed, not_retried():
        raise error
    assert failed.value.allow_retries is False
    assert failed.value.description == str(error)


def test_a_fault_outside_is_left_to_the_retry_policy():
    with pytest.raises(EnvironmentFault), not_retried():
        raise EnvironmentFault("Postgres is away")
