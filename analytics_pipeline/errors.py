"""The exception tree of the product.

    AnalyticsError
    ├── ConfigurationError    a person must change a setting; never retried
    ├── EnvironmentFault      Postgres, Kafka, Redis or the disk; retried with back-off, nothing is lost
    │   ├── SchemaMismatch    the database is at another version than this program
    │   └── MissingPartition  no partition for a day that should have one: maintenance is behind
    ├── DataError             the event is wrong: it becomes a dead letter, never retried
    └── InvariantBroken       the books do not balance: stop loudly, a person must look

Errors of one layer alone are declared there, as a subclass of one of these.
"""


class AnalyticsError(Exception):
    """The root: its text is one sentence that says what was wrong, where, and what to do."""

    exit_code = 1


class ConfigurationError(AnalyticsError):
    """A setting is missing or contradicts another; `problems` holds one sentence per key."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class EnvironmentFault(AnalyticsError):
    """Something outside this program is not there or does not answer; trying again may help."""

    exit_code = 3


class SchemaMismatch(EnvironmentFault):
    """The database schema is older or newer than this program knows."""


class MissingPartition(EnvironmentFault):
    """An accepted event has no partition to land in: `analytics maintain` has to create it first."""


class DataError(AnalyticsError):
    """The input is wrong and will stay wrong."""

    exit_code = 4


class InvariantBroken(AnalyticsError):
    """What must always hold does not hold; going on would spread the damage."""

    exit_code = 5
