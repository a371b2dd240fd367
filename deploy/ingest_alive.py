"""Health of an ingest container: Postgres sees a landing connection that comes from it.

Ingest serves no port of its own; what makes it alive is that it holds a connection and lands.
"""

import sys

import psycopg

from analytics_pipeline.settings import settings

_QUERY = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name LIKE 'analytics-landing%' AND client_addr IS NOT DISTINCT FROM inet_client_addr()
"""

with psycopg.connect(settings().database.conninfo(), application_name="analytics-health") as connection:
    found = connection.execute(_QUERY).fetchone()
sys.exit(0 if found and found[0] else 1)
