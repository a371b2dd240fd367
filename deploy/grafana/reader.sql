-- The role that Grafana reads the business dashboard with: it sees rollups and marts, no raw events and no keys, and it
-- writes nothing. May be run again; psql takes name and password from GRAFANA_DB_USER and GRAFANA_DB_PASSWORD.
\set ON_ERROR_STOP on
\getenv role GRAFANA_DB_USER
\getenv password GRAFANA_DB_PASSWORD

SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec

ALTER ROLE :"role" LOGIN PASSWORD :'password' CONNECTION LIMIT 10;
ALTER ROLE :"role" SET default_transaction_read_only = on;
ALTER ROLE :"role" SET statement_timeout = '10s';

GRANT USAGE ON SCHEMA public TO :"role";
GRANT SELECT ON metrics_live, metric_aggregations, metric_buckets, order_analytics, market_analytics, strategy_performance,
    dashboard_metrics TO :"role";
