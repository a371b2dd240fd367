"""Postgres as our own processes see it; no other exporter is needed."""

from deploy.grafana.board import Board, Panel, Query

BOARD = Board(
    "b25-postgres",
    "B25 Analytics: Postgres",
    "Postgres as ingest sees it: every 15 seconds, tables once a minute.",
    [
        Panel(
            "Size of the database",
            "bytes",
            "Normal: grows day by day until retention takes as much as comes in, then stays.",
            [Query("max(analytics_postgres_database_bytes)", "database")],
        ),
        Panel(
            "Size of tables",
            "bytes",
            "The ten largest, with their indexes; what is partitioned by time counts as one. Normal: events above all.",
            [Query("topk(10, max by (table) (analytics_table_bytes))", "{{table}}")],
            is_stacked=True,
        ),
        Panel(
            "Disk",
            "bytes",
            "The disk of the state folder: an embedded Postgres lies on it, and the volumes of docker-compose.yml. "
            "A Postgres elsewhere needs a look at its own disk. Normal: a fifth is free.",
            [Query("max by (service, kind) (analytics_disk_bytes)", "{{service}} {{kind}}")],
        ),
        Panel(
            "Partitions ahead",
            "d",
            "For how many more days each partitioned table has partitions. Normal: 7 and more; at 0 landing stops.",
            [Query("min by (table) (analytics_partitions_ahead_days)", "{{table}}")],
        ),
        Panel(
            "Overdue for removal",
            "s",
            "For how long the oldest partition should have been removed. Normal: below a day and a half.",
            [Query("max(analytics_retention_overdue_seconds)", "overdue")],
            limit=259200,
        ),
        Panel(
            "Dead rows",
            "short",
            "Rows that a vacuum will remove, the ten tables that have most. Normal: a saw-tooth; a slope over hours "
            "means that vacuum cannot keep up, or that a long transaction holds it back.",
            [Query('topk(10, max by (table) (analytics_table_rows{state="dead"}))', "{{table}}")],
        ),
        Panel(
            "Rows",
            "short",
            "Live rows as Postgres estimates them, the ten largest tables.",
            [Query('topk(10, max by (table) (analytics_table_rows{state="live"}))', "{{table}}")],
        ),
        Panel(
            "Connections",
            "short",
            "Connections to the database by state, and how many the server allows. Normal: below 70 % of those.",
            [
                Query("max by (state) (analytics_postgres_connections)", "{{state}}"),
                Query("max(analytics_postgres_max_connections)", "allowed"),
            ],
        ),
        Panel(
            "Oldest transaction",
            "s",
            "Normal: below 10 s, minutes while a backfill reads. Vacuum removes nothing that is younger than it.",
            [Query("max(analytics_postgres_oldest_transaction_seconds)", "oldest")],
            limit=3600,
        ),
        Panel(
            "Waiting for locks",
            "short",
            "Connections that wait for a lock. Normal: 0, single ones for moments.",
            [Query("max(analytics_postgres_waiting_for_locks)", "waiting")],
        ),
        Panel(
            "Write-ahead log",
            "Bps",
            "Bytes a second. Normal: two to four times the bytes of the events that land.",
            [Query("max(rate(analytics_postgres_wal_written_bytes[5m]))", "written")],
        ),
        Panel(
            "Transactions",
            "ops",
            "Transactions a second by how they ended. Normal: hardly any rolled back.",
            [Query("max by (outcome) (rate(analytics_postgres_transactions[5m]))", "{{outcome}}")],
        ),
        Panel(
            "Blocks read from Postgres' cache",
            "percentunit",
            "Share of blocks that were in shared buffers. Normal: above 95 %; lower while a backfill reads old days.",
            [Query("analytics:postgres_cache_hits:ratio5m", "hits")],
        ),
        Panel(
            "Temporary files",
            "Bps",
            "Bytes a second written to temporary files. Normal: 0, except while marts and backfills sort.",
            [Query("max(rate(analytics_postgres_temporary_bytes[5m]))", "written")],
        ),
        Panel(
            "Deadlocks",
            "short",
            "In ten minutes. Normal: 0; landing tries again by itself.",
            [
                Query("max(increase(analytics_postgres_deadlocks[10m]))", "deadlocks"),
                Query("sum(increase(analytics_landing_retries_total[10m]))", "landings tried again"),
            ],
        ),
        Panel(
            "Age of transaction ids",
            "short",
            "Transactions since the oldest row that is not frozen. Normal: below 200 million, where autovacuum begins; "
            "at two thousand million the server stops.",
            [Query("max(analytics_postgres_transaction_id_age)", "age")],
            limit=1_000_000_000,
        ),
    ],
)
