"""Pure rollup arithmetic: Arrow in, Arrow out, by DuckDB and numpy; no clients, no clock.

The catalog is loaded before all else: whichever process starts, a mistake in its file is the same sentence.
"""

from analytics_pipeline.errors import AnalyticsError, ConfigurationError
from analytics_pipeline.rollups import mistakes

try:
    from analytics_pipeline.rollups import catalog  # noqa: F401  (see above)
except AnalyticsError:
    raise
except Exception as error:
    if (found := mistakes.sentence(error)) is None:
        raise
    raise ConfigurationError(found) from error
