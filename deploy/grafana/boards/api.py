"""The REST API: load, errors, latency, cache, streams, keys."""

from deploy.grafana.board import Board, Panel, Query

BOARD = Board(
    "b25-api",
    "B25 Analytics: API",
    "Requests to the REST API, of all its processes together.",
    [
        Panel(
            "Requests",
            "reqps",
            "Requests a second by status. Normal: 200, 201 and 304; 4xx are callers' mistakes, 429 is the rate limit.",
            [Query("sum by (status) (rate(analytics_http_requests_total[1m]))", "{{status}}")],
            is_stacked=True,
        ),
        Panel(
            "Errors",
            "percentunit",
            "Answers of status 5xx among all, over five minutes. Normal: 0; 503 comes while Postgres is away.",
            [Query("analytics:http_errors:ratio5m", "5xx")],
            limit=0.01,
        ),
        Panel(
            "Latency of all requests",
            "s",
            "Normal: p50 around 1 ms, as most reads are hits of the cache; p99 below 0.5 s. Streams count until they "
            "end, so they are left out.",
            [
                Query("analytics:http_duration:p50_5m", "p50"),
                Query("analytics:http_duration:p95_5m", "p95"),
                Query("analytics:http_duration:p99_5m", "p99"),
            ],
            limit=1,
        ),
        Panel(
            "Latency by route",
            "s",
            "p99 of each route. Normal: below 0.5 s; POST waits for COMMIT, `after` for a landing.",
            [
                Query(
                    "histogram_quantile(0.99, sum by (le, route) "
                    "(rate(analytics_http_request_duration_seconds_bucket[5m])))",
                    "{{route}}",
                )
            ],
        ),
        Panel(
            "Requests by route",
            "reqps",
            "Requests a second by route. Normal: whatever callers do; `unmatched` are paths that do not exist.",
            [Query("sum by (route) (rate(analytics_http_requests_total[5m]))", "{{route}}")],
            is_stacked=True,
        ),
        Panel(
            "Database queries",
            "s",
            "p99 by query, waiting for a connection included. Normal: below 0.1 s for a day, more for long ranges.",
            [
                Query(
                    "histogram_quantile(0.99, sum by (le, query) (rate(analytics_query_duration_seconds_bucket[5m])))",
                    "{{query}}",
                )
            ],
        ),
        Panel(
            "Queries a second",
            "ops",
            "Database queries a second by query. Normal: far fewer than requests, thanks to the cache.",
            [Query("sum by (query) (rate(analytics_query_duration_seconds_count[5m]))", "{{query}}")],
            is_stacked=True,
        ),
        Panel(
            "Reads answered from the cache",
            "percentunit",
            "Share of cacheable reads that asked no database. Normal: above 80 % with several readers; falls when "
            "every reader asks something else, or while Redis is away.",
            [Query("analytics:cache_hits:ratio5m", "hits")],
        ),
        Panel(
            "Cache",
            "ops",
            "Hits by level, and misses. Normal: local above redis, misses about one a second for each moving question.",
            [
                Query("sum by (level) (rate(analytics_cache_hits_total[5m]))", "hit: {{level}}"),
                Query("sum(rate(analytics_cache_misses_total[5m]))", "miss"),
            ],
            is_stacked=True,
        ),
        Panel(
            "Redis and Postgres",
            "short",
            "1: answers; 0: does not, as seen by the API (and by ingest). Without Redis only latency suffers; without "
            "Postgres the API answers 503 and ingest waits.",
            [
                Query("min(analytics_cache_up)", "Redis"),
                Query("min by (service) (analytics_postgres_up)", "Postgres, seen by {{service}}"),
            ],
        ),
        Panel(
            "Open streams",
            "short",
            "Streams of server-sent events. Normal: one for each open page; beyond realtime.max_connections 503.",
            [Query("sum(analytics_api_open_streams)", "streams")],
        ),
        Panel(
            "Requests without a valid key",
            "ops",
            "By what was wrong. Normal: a few by mistake; many invalid keys are somebody guessing.",
            [
                Query(
                    "sum by (kind) (rate(analytics_authentication_failures_total[5m]))",
                    "{{kind}}",
                )
            ],
        ),
        Panel(
            "Lines lost by the audit log",
            "short",
            "Must be 0: writes over REST that are missing in the audit log, because Postgres was away for too long.",
            [Query("sum(increase(analytics_audit_lines_lost_total[10m]))", "lost")],
            limit=1,
        ),
        Panel(
            "Custom event definitions",
            "short",
            "Definitions in force. Normal: the number of active ones; a fall to 0 means that none could be loaded.",
            [Query("max(analytics_definitions_active)", "active")],
        ),
    ],
)
