"""The environment that Dagster's own processes need: where its storage is.

Belongs here: the variables that `dagster.yaml` names. Light to import: no Dagster.
Does not belong here: starting processes (`local_stack`), and the schema they point to (`storage.dagster_schema`).
"""

from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.settings import Settings

URL_VARIABLE = "DAGSTER_POSTGRES_URL"
"""What `dagster.yaml` reads."""

_PASSED_ON = ("host", "port", "sslmode", "sslrootcert", "connect_timeout")


def dagster_environment(settings: Settings) -> dict[str, str]:
    """Variables for `dagster-webserver`, `dagster-daemon` and code servers; the URL holds the password.

    Host and port go into the query, where a socket folder is allowed too; the schema goes in as `search_path`. Dagster
    reads its times as UTC, and lets the session write them, so the session's zone is that. A backfill whose code server
    is away for a moment waits for it instead of failing.
    """
    parts = conninfo_to_dict(settings.database.conninfo())
    login = quote(str(parts.get("user") or ""), safe="")
    if parts.get("password"):
        login += ":" + quote(str(parts["password"]), safe="")
    query = {key: str(parts[key]) for key in _PASSED_ON if parts.get(key)}
    query["application_name"] = "analytics-dagster"
    query["options"] = f"-csearch_path={settings.dagster.schema_name} -ctimezone=UTC"
    name = quote(str(parts.get("dbname") or ""), safe="")
    return {
        URL_VARIABLE: f"postgresql://{login}@/{name}?{urlencode(query, quote_via=quote)}",
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1",
    }
