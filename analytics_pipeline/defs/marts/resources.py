"""dbt's connection: the product's own, handed over in the environment of its process.

Belongs here: the variables that `dbt_models/profiles.yml` names. Does not belong here: the project (`project`).
"""

import dagster as dg
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.defs.marts.project import dbt_client, dbt_project

PROJECT = dbt_project()
# As a value: otherwise the Launchpad would show a dozen options of dbt, with their help, beside those of each run.
RESOURCES = {
    "dbt": dg.ResourceDefinition.hardcoded_resource(dbt_client(PROJECT), "dbt, as this program runs it.")
}

_VARIABLES = {
    "host": "ANALYTICS_DBT_HOST",
    "port": "ANALYTICS_DBT_PORT",
    "user": "ANALYTICS_DBT_USER",
    "password": "DBT_ENV_SECRET_ANALYTICS_PASSWORD",
    "dbname": "ANALYTICS_DBT_DATABASE",
    "sslmode": "ANALYTICS_DBT_SSL_MODE",
}
# A filling of twenty million events takes minutes. A statement that takes this long is at fault, and would hold the
# pool of the marts, and with its snapshot the vacuum of every table. In libpq's own variable, because a profile of dbt
# knows no option of the session but its search path; all other connections bring options of their own. No helpers: the
# marts may take a core each, but landing and answers must not wait for all of them.
_SESSION = {"PGOPTIONS": "-c statement_timeout=30min -c max_parallel_workers_per_gather=0"}


def dbt_environment(conninfo: str) -> dict[str, str]:
    """The variables of a libpq connection string and of its session; dbt masks the one with `SECRET` in its name."""
    parts = conninfo_to_dict(conninfo)
    return {variable: str(parts[key]) for key, variable in _VARIABLES.items() if parts.get(key)} | _SESSION
