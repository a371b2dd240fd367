"""From Kafka and the inbox to settled rollups: what an operator looks at first."""

from deploy.grafana.board import Board, Panel, Query

BOARD = Board(
    "b25-pipeline",
    "B25 Analytics: pipeline",
    "From Kafka and the inbox through landing to settled rollups. On a good day nothing is red.",
    [
        Panel(
            "Processes",
            "short",
            "Processes that run, by service. Normal: as many as were started; a dip is a restart, 0 an outage.",
            [Query("sum by (service) (analytics_processes)", "{{service}}")],
        ),
        Panel(
            "Events stored",
            "ops",
            "Events a second that landed, and those that were stored already. Normal: follows what producers send; "
            "duplicates are few, and come in bursts after a producer's or our own restart.",
            [
                Query("sum(analytics:events_ingested:rate1m)", "stored"),
                Query("sum(rate(analytics_events_duplicate_total[1m]))", "duplicate"),
            ],
        ),
        Panel(
            "Freshness",
            "s",
            "Since when everything that Kafka held has landed, the worst partition of each topic. Normal: 1 to 3 s. "
            "Growing by one second a second: nobody lands that partition.",
            [Query("max by (topic) (analytics_ingest_freshness_seconds)", "{{topic}}")],
            limit=60,
        ),
        Panel(
            "Lag",
            "short",
            "Messages in Kafka that have not landed. Normal: a fraction of a second's worth; a peak that falls again "
            "is a burst, a slope is too little capacity.",
            [Query("sum by (topic) (analytics_ingest_lag)", "{{topic}}")],
        ),
        Panel(
            "Posted events that wait",
            "short",
            "Events of POST in the inbox. Normal: near 0, as landing takes them several times a second.",
            [Query("max(analytics_inbox_events)", "events")],
        ),
        Panel(
            "Oldest posted event",
            "s",
            "Age of the oldest event in the inbox. Normal: below 1 s.",
            [Query("max(analytics_inbox_oldest_seconds)", "oldest")],
            limit=60,
        ),
        Panel(
            "Partitions that need a person",
            "short",
            "Must be 0. Stopped: ingest refuses to go on rather than lose or invent data; /api/v1/pipeline names the "
            "command. "
            "Stalled: a partition stands still although Kafka holds more.",
            [
                Query("sum by (reason) (analytics_ingest_partitions_stopped)", "stopped: {{reason}}"),
                Query("sum by (kind) (analytics_ingest_partitions_stalled)", "stalled: {{kind}}"),
            ],
            limit=1,
        ),
        Panel(
            "Partitions of ingest",
            "short",
            "Partitions that ingest processes own, and those they have paused because what is in memory has to land "
            "first. Normal: owned is the number of all partitions; paused now and then behind a backlog.",
            [Query('sum by (state) (analytics_ingest_partitions{state!="stopped"})', "{{state}}")],
        ),
        Panel(
            "Ledger",
            "short",
            "Must be 0: places where a balance of the last hour does not hold (read = stored + duplicate + dead, "
            "offsets without a gap, posted = read + waiting).",
            [Query("max by (check) (analytics_ledger_broken)", "{{check}}")],
            limit=1,
        ),
        Panel(
            "Dead letters by reason",
            "ops",
            "Messages a second that could not become events. Normal: few, from few producers.",
            [Query("sum by (reason) (rate(analytics_events_failed_total[5m])) > 0", "{{reason}}")],
            is_stacked=True,
        ),
        Panel(
            "Dead-letter ratio",
            "percentunit",
            "Dead letters among all messages read, over 15 minutes. Normal: below 1 %; an alert at 5 %.",
            [Query("analytics:dead_letter:ratio15m", "dead")],
            limit=0.05,
        ),
        Panel(
            "Landing transaction",
            "s",
            "From the first decoded row to COMMIT. Normal: p50 some 10 ms in quiet times, 100 to 300 ms under load.",
            [
                Query("analytics:batch_duration:p50_5m", "p50"),
                Query("analytics:batch_duration:p99_5m", "p99"),
            ],
            limit=4,
        ),
        Panel(
            "Where landing spends its time",
            "percentunit",
            "Seconds of landing transactions a second, by step: how busy the landing connections are. Normal: events "
            "and deltas above all; begin grows when retention holds the floor, commit when the disk is slow.",
            [Query("sum by (step) (rate(analytics_landing_step_seconds_total[5m]))", "{{step}}")],
            is_stacked=True,
        ),
        Panel(
            "Batches",
            "ops",
            "Landing transactions a second; rolled back: moved is a change of owner, all else is trouble. Normal: a "
            "few a second a connection, nothing rolled back.",
            [
                Query("sum(rate(analytics_batches_processed_total[5m]))", "committed"),
                Query(
                    "sum by (reason) (rate(analytics_landing_rollbacks_total[5m])) > 0",
                    "rolled back: {{reason}}",
                ),
                Query("sum(rate(analytics_ingest_fallback_batches_total[5m]))", "with duplicates"),
            ],
        ),
        Panel(
            "Rows of a batch",
            "short",
            "Messages read by a landing transaction. Normal: small when there is little to do; near "
            "`ingestion.batch_size` behind a backlog.",
            [
                Query(
                    "histogram_quantile(0.5, sum by (le) (rate(analytics_ingest_batch_rows_bucket[5m])))",
                    "p50",
                ),
                Query(
                    "histogram_quantile(0.99, sum by (le) (rate(analytics_ingest_batch_rows_bucket[5m])))",
                    "p99",
                ),
            ],
        ),
        Panel(
            "Rollups behind",
            "s",
            "Age of the oldest delta that no live merge has settled. Normal: a saw-tooth up to about 90 s. Answers "
            "are right meanwhile, for reads add what is pending; they become slower.",
            [Query("max(analytics_rollup_pending_seconds)", "oldest delta")],
            limit=300,
        ),
        Panel(
            "Pending deltas",
            "short",
            "Deltas that wait for a live merge. Normal: a saw-tooth that falls to nearly 0 about once a minute.",
            [Query("max(analytics_rollup_pending_deltas)", "deltas")],
        ),
        Panel(
            "Runs of Dagster",
            "short",
            "Runs that wait or work now, and those that ended in the last hour. Normal: some 80 successes an hour, no "
            "failures, at most four at work.",
            [Query("max by (state) (analytics_dagster_runs)", "{{state}}")],
        ),
        Panel(
            "Failed checks",
            "short",
            "Must be empty: assets whose latest asset check failed. ledger_is_conserved, equals_raw and "
            "every_metric_equals_raw mean that numbers are wrong.",
            [Query("max by (check) (analytics_dagster_checks_failed) > 0 or vector(0)", "{{check}}")],
            limit=1,
        ),
        Panel(
            "Dagster's daemon",
            "s",
            "Since when each part of the daemon was last heard of. Normal: below 60 s. Without it nothing is merged, "
            "checked or removed.",
            [Query("max by (daemon) (analytics_dagster_heartbeat_seconds)", "{{daemon}}")],
            limit=300,
        ),
        Panel(
            "Series of metrics",
            "short",
            "Series with a place of their own in the present UTC day. Normal: grows until noon, then hardly; at the "
            "budget of its metric the rest is counted under __other__.",
            [Query("max by (metric, group_by) (analytics_metric_series)", "{{metric}} by {{group_by}}")],
        ),
    ],
)
