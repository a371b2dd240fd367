-- What the tables and columns mean whose names were left to speak for themselves: psql shows it (\d+), and docs/tables.md.

COMMENT ON TABLE retention_state IS 'One row: how far back raw events may reach.';
COMMENT ON TABLE schema_migrations IS 'Migrations that were applied.';

COMMENT ON COLUMN events.id IS 'UUID; with timestamp it is what makes an event the same event.';
COMMENT ON COLUMN events.event_type IS '1 to 255 characters.';
COMMENT ON COLUMN events.user_id IS 'As the producer sent it.';
COMMENT ON COLUMN events.session_id IS 'As the producer sent it.';
COMMENT ON COLUMN events.properties IS 'The object as sent, keys with their last value.';
COMMENT ON COLUMN events.timestamp IS 'When it happened, in UTC; the partition follows from it.';
COMMENT ON COLUMN events.created_at IS 'When it landed: the same moment as began_at of its batch.';
COMMENT ON COLUMN events.source_partition IS 'Kafka partition, 0 for POST; NULL where a plain INSERT wrote it.';
COMMENT ON COLUMN events.definition_version IS 'Version of the custom definition that judged it; NULL without one.';

COMMENT ON COLUMN ingest_offsets.source IS 'Kafka topic.';
COMMENT ON COLUMN ingest_offsets.partition IS 'Kafka partition.';
COMMENT ON COLUMN ingest_offsets.next_offset IS 'Everything below it has landed.';
COMMENT ON COLUMN ingest_offsets.is_retired IS 'The topic is no longer read: its standing holds back no bucket.';
COMMENT ON COLUMN ingest_offsets.updated_at IS 'When the row last changed.';

COMMENT ON COLUMN ingest_batches.batch_id IS 'One transaction; several rows where it took messages of several partitions.';
COMMENT ON COLUMN ingest_batches.source IS 'Kafka topic; http for posted events, _replay for dead letters landed again.';
COMMENT ON COLUMN ingest_batches.partition IS 'Kafka partition; 0 where there is none.';
COMMENT ON COLUMN ingest_batches.first_offset IS 'First offset of the batch; NULL where there are no offsets.';
COMMENT ON COLUMN ingest_batches.next_offset IS 'The offset after its last one.';
COMMENT ON COLUMN ingest_batches.read IS 'Messages read: stored + duplicate + dead.';
COMMENT ON COLUMN ingest_batches.stored IS 'Rows that it added to events.';
COMMENT ON COLUMN ingest_batches.duplicate IS 'Events that were stored already.';
COMMENT ON COLUMN ingest_batches.dead IS 'Rows that it added to dead_letter_events.';
COMMENT ON COLUMN ingest_batches.skipped IS 'Offsets without a message for us: compacted, aborted, or left out by an operator.';
COMMENT ON COLUMN ingest_batches.catalog_version IS 'Of the metrics that the process computed.';
COMMENT ON COLUMN ingest_batches.hours IS 'UTC hours that its deltas touch.';
COMMENT ON COLUMN ingest_batches.seconds IS 'From the first decoded row to COMMIT.';
COMMENT ON COLUMN ingest_batches.committed_at IS 'Just before COMMIT.';

COMMENT ON COLUMN dead_letter_events.id IS 'Number of the letter, as the commands and REST name it.';
COMMENT ON COLUMN dead_letter_events.batch_id IS 'The batch of the ledger that wrote it.';
COMMENT ON COLUMN dead_letter_events.source IS 'Kafka topic; http for posted events.';
COMMENT ON COLUMN dead_letter_events.partition IS 'Kafka partition.';
COMMENT ON COLUMN dead_letter_events.source_offset IS 'Kafka offset; of POST the row of the inbox plus the position in it.';
COMMENT ON COLUMN dead_letter_events.reason IS 'Reason code.';
COMMENT ON COLUMN dead_letter_events.detail IS 'What is wrong, and where in the value.';
COMMENT ON COLUMN dead_letter_events.event_type IS 'Where it could be read.';
COMMENT ON COLUMN dead_letter_events.key IS 'Bytes of the key; NULL once erased.';
COMMENT ON COLUMN dead_letter_events.value IS 'Bytes of the value; NULL once erased.';
COMMENT ON COLUMN dead_letter_events.message_timestamp IS 'When the message reached Kafka or the API.';
COMMENT ON COLUMN dead_letter_events.created_at IS 'When the letter was written.';
COMMENT ON COLUMN dead_letter_events.status IS 'open, replayed or discarded.';
COMMENT ON COLUMN dead_letter_events.attempted_at IS 'Last replay.';
COMMENT ON COLUMN dead_letter_events.settled_at IS 'When it was replayed or discarded.';
COMMENT ON COLUMN dead_letter_events.note IS 'Why it was discarded.';

COMMENT ON COLUMN http_inbox.id IS 'A multiple of 65536; plus the position of an event it is that events offset.';
COMMENT ON COLUMN http_inbox.payload IS 'Events as lines of JSON.';
COMMENT ON COLUMN http_inbox.received_at IS 'Arrival, which is the time of events without one.';

COMMENT ON COLUMN http_accepted.process_id IS 'API process.';
COMMENT ON COLUMN http_accepted.day IS 'UTC day.';
COMMENT ON COLUMN http_accepted.accepted IS 'Events answered with 201.';

COMMENT ON COLUMN custom_event_definitions.id IS 'UUID.';
COMMENT ON COLUMN custom_event_definitions.name IS 'The event type.';
COMMENT ON COLUMN custom_event_definitions.display_name IS 'For people.';
COMMENT ON COLUMN custom_event_definitions.description IS 'For people.';
COMMENT ON COLUMN custom_event_definitions.schema IS 'JSON Schema of properties.';
COMMENT ON COLUMN custom_event_definitions.is_active IS 'Whether events of the type are judged by it.';
COMMENT ON COLUMN custom_event_definitions.version IS 'Raised when the schema changes.';
COMMENT ON COLUMN custom_event_definitions.created_at IS 'When it was defined.';
COMMENT ON COLUMN custom_event_definitions.updated_at IS 'When it last changed.';

COMMENT ON COLUMN custom_event_definition_versions.name IS 'The event type.';
COMMENT ON COLUMN custom_event_definition_versions.version IS '1 and up, never used twice.';
COMMENT ON COLUMN custom_event_definition_versions.schema IS 'JSON Schema of properties.';
COMMENT ON COLUMN custom_event_definition_versions.created_at IS 'When it was stored.';

COMMENT ON COLUMN retention_state.is_single IS 'There is one row.';

COMMENT ON COLUMN rollup_deltas.hour IS 'UTC hour of the minute.';
COMMENT ON COLUMN rollup_deltas.batch_id IS 'The batch that wrote it.';
COMMENT ON COLUMN rollup_deltas.minute IS 'UTC minute of the events.';
COMMENT ON COLUMN rollup_deltas.metric_id IS 'Definition of the metric: a hash of everything that changes its numbers.';
COMMENT ON COLUMN rollup_deltas.metric_name IS 'Name of the metric.';
COMMENT ON COLUMN rollup_deltas.dimension_set IS 'Names of the dimensions, with commas between; empty for the total.';
COMMENT ON COLUMN rollup_deltas.dimensions IS 'Their values.';
COMMENT ON COLUMN rollup_deltas.kind IS 'What state holds: none, quantiles, distinct values, first and last, or the register of buckets.';
COMMENT ON COLUMN rollup_deltas.count IS 'Events that count.';
COMMENT ON COLUMN rollup_deltas.sum IS 'Sum of their values, in decimals.';
COMMENT ON COLUMN rollup_deltas.min IS 'Smallest value.';
COMMENT ON COLUMN rollup_deltas.max IS 'Largest value.';
COMMENT ON COLUMN rollup_deltas.state IS 'Mergeable state of the kind.';

COMMENT ON COLUMN pending_batches.hour IS 'UTC hour in which it has deltas.';
COMMENT ON COLUMN pending_batches.batch_id IS 'The batch.';

COMMENT ON COLUMN rollup_days.day IS 'UTC day.';
COMMENT ON COLUMN rollup_days.revision IS 'How often rollups of the day changed.';
COMMENT ON COLUMN rollup_days.changed_at IS 'When they last did.';

COMMENT ON COLUMN metric_aggregations.id IS 'UUID.';
COMMENT ON COLUMN metric_aggregations.metric_name IS 'Name of the metric.';
COMMENT ON COLUMN metric_aggregations.interval IS '1m, 5m, 15m, 1h or 1d.';
COMMENT ON COLUMN metric_aggregations.time_bucket IS 'Start of the bucket, UTC.';
COMMENT ON COLUMN metric_aggregations.count IS 'Events that count.';
COMMENT ON COLUMN metric_aggregations.sum IS 'Sum of their values.';
COMMENT ON COLUMN metric_aggregations.avg IS 'sum ÷ count.';
COMMENT ON COLUMN metric_aggregations.min IS 'Smallest value.';
COMMENT ON COLUMN metric_aggregations.max IS 'Largest value.';
COMMENT ON COLUMN metric_aggregations.p50 IS 'Median, within 0.5 %.';
COMMENT ON COLUMN metric_aggregations.p95 IS '95th percentile, within 0.5 %.';
COMMENT ON COLUMN metric_aggregations.p99 IS '99th percentile, within 0.5 %.';
COMMENT ON COLUMN metric_aggregations.dimensions IS 'Values of the dimensions.';
COMMENT ON COLUMN metric_aggregations.created_at IS 'When the row was written.';
COMMENT ON COLUMN metric_aggregations.metric_id IS 'Definition that gave the numbers.';
COMMENT ON COLUMN metric_aggregations.dimension_set IS 'Names of the dimensions, with commas between; empty for the total.';

COMMENT ON COLUMN metric_states.metric_id IS 'Definition of the metric.';
COMMENT ON COLUMN metric_states.interval IS '1m, 5m, 15m, 1h or 1d.';
COMMENT ON COLUMN metric_states.time_bucket IS 'Start of the bucket, UTC.';
COMMENT ON COLUMN metric_states.dimension_set IS 'Names of the dimensions.';
COMMENT ON COLUMN metric_states.dimensions IS 'Their values.';
COMMENT ON COLUMN metric_states.kind IS 'What state holds.';
COMMENT ON COLUMN metric_states.state IS 'The state; bytes do not depend on order or batching.';

COMMENT ON COLUMN metric_buckets.interval IS '1m, 5m, 15m, 1h or 1d.';
COMMENT ON COLUMN metric_buckets.time_bucket IS 'Start of the bucket, UTC.';
COMMENT ON COLUMN metric_buckets.revision IS 'How often it changed.';
COMMENT ON COLUMN metric_buckets.state IS 'open, settling, final or restated.';
COMMENT ON COLUMN metric_buckets.event_count IS 'Events merged into it.';
COMMENT ON COLUMN metric_buckets.late_count IS 'Late ones among them.';
COMMENT ON COLUMN metric_buckets.computed_at IS 'When it last changed.';
COMMENT ON COLUMN metric_buckets.run_id IS 'The run that changed it.';

COMMENT ON COLUMN metric_restatements.id IS 'Order of the feed.';
COMMENT ON COLUMN metric_restatements.restated_at IS 'When the bucket changed.';
COMMENT ON COLUMN metric_restatements.run_id IS 'The run that changed it.';
COMMENT ON COLUMN metric_restatements.interval IS '1m, 5m, 15m, 1h or 1d.';
COMMENT ON COLUMN metric_restatements.time_bucket IS 'Start of the bucket, UTC.';
COMMENT ON COLUMN metric_restatements.metric_id IS 'Definition of the metric.';
COMMENT ON COLUMN metric_restatements.metric_name IS 'Name of the metric.';
COMMENT ON COLUMN metric_restatements.old_sum IS 'Sum before.';
COMMENT ON COLUMN metric_restatements.new_sum IS 'Sum since.';
COMMENT ON COLUMN metric_restatements.old_min IS 'Smallest value before.';
COMMENT ON COLUMN metric_restatements.new_min IS 'Smallest value since.';
COMMENT ON COLUMN metric_restatements.old_max IS 'Largest value before.';
COMMENT ON COLUMN metric_restatements.new_max IS 'Largest value since.';
COMMENT ON COLUMN metric_restatements.old_p50 IS 'Median before.';
COMMENT ON COLUMN metric_restatements.new_p50 IS 'Median since.';
COMMENT ON COLUMN metric_restatements.old_p95 IS '95th percentile before.';
COMMENT ON COLUMN metric_restatements.new_p95 IS '95th percentile since.';
COMMENT ON COLUMN metric_restatements.old_p99 IS '99th percentile before.';
COMMENT ON COLUMN metric_restatements.new_p99 IS '99th percentile since.';
COMMENT ON COLUMN metric_restatements.old_distinct_count IS 'Distinct values before.';
COMMENT ON COLUMN metric_restatements.new_distinct_count IS 'Distinct values since.';

COMMENT ON COLUMN retention_policies.parent IS 'Table with partitions.';
COMMENT ON COLUMN retention_policies.kind IS 'raw, rollup or mart.';
COMMENT ON COLUMN retention_policies.keep IS 'How long.';
COMMENT ON COLUMN retention_policies.updated_at IS 'When it was written.';

COMMENT ON COLUMN retention_removals.partition IS 'Name of the partition.';
COMMENT ON COLUMN retention_removals.parent IS 'Its table.';
COMMENT ON COLUMN retention_removals.lower_bound IS 'First moment in it.';
COMMENT ON COLUMN retention_removals.upper_bound IS 'First moment after it.';
COMMENT ON COLUMN retention_removals.state IS 'The step that it has reached.';
COMMENT ON COLUMN retention_removals.bytes IS 'Its size with indexes, when its removal began.';
COMMENT ON COLUMN retention_removals.run_id IS 'The run that was at it last.';
COMMENT ON COLUMN retention_removals.changed_at IS 'When it took its last step.';
COMMENT ON COLUMN retention_removals.archived_rows IS 'Events in its archive.';

COMMENT ON COLUMN frozen_days.day IS 'UTC day.';
COMMENT ON COLUMN frozen_days.frozen_at IS 'Since when.';

COMMENT ON COLUMN backfill_progress.hour IS 'UTC hour that is done.';
COMMENT ON COLUMN backfill_progress.run_id IS 'The run that did it.';
COMMENT ON COLUMN backfill_progress.done_at IS 'When.';

COMMENT ON COLUMN metric_versions.version IS 'Order of the declarations.';
COMMENT ON COLUMN metric_versions.metric_name IS 'The name.';
COMMENT ON COLUMN metric_versions.metric_id IS 'What it meant: a hash of everything that changes its numbers.';
COMMENT ON COLUMN metric_versions.kind IS 'What is kept of it.';
COMMENT ON COLUMN metric_versions.declared_at IS 'When an ingest process first declared it.';

COMMENT ON COLUMN metric_gaps.metric_id IS 'The metric.';
COMMENT ON COLUMN metric_gaps.hour IS 'UTC hour to be recomputed.';

COMMENT ON COLUMN metric_declarations.metric_id IS 'The metric.';
COMMENT ON COLUMN metric_declarations.declared_at IS 'When it was last said.';

COMMENT ON COLUMN metric_series.day IS 'UTC day.';
COMMENT ON COLUMN metric_series.metric_id IS 'The metric.';
COMMENT ON COLUMN metric_series.dimension_set IS 'Names of the dimensions.';
COMMENT ON COLUMN metric_series.dimensions IS 'Their values.';

COMMENT ON COLUMN source_statistics.source IS 'Kafka topic; http for posted events.';
COMMENT ON COLUMN source_statistics.read IS 'Messages.';
COMMENT ON COLUMN source_statistics.stored IS 'Stored as events.';
COMMENT ON COLUMN source_statistics.duplicate IS 'Stored already.';
COMMENT ON COLUMN source_statistics.dead IS 'Dead letters.';
COMMENT ON COLUMN source_statistics.ahead_max_ms IS 'Furthest that an event was ahead of its message.';
COMMENT ON COLUMN source_statistics.first_at IS 'First landing of the hour.';
COMMENT ON COLUMN source_statistics.last_at IS 'Last landing of the hour.';

COMMENT ON COLUMN source_statistics_deltas.batch_id IS 'The batch.';
COMMENT ON COLUMN source_statistics_deltas.source IS 'Kafka topic; http for posted events.';
COMMENT ON COLUMN source_statistics_deltas.producer IS 'As in source_statistics.';
COMMENT ON COLUMN source_statistics_deltas.read IS 'Messages.';
COMMENT ON COLUMN source_statistics_deltas.stored IS 'Stored as events.';
COMMENT ON COLUMN source_statistics_deltas.duplicate IS 'Stored already.';
COMMENT ON COLUMN source_statistics_deltas.dead IS 'Dead letters.';
COMMENT ON COLUMN source_statistics_deltas.reasons IS 'Dead letters by reason code.';
COMMENT ON COLUMN source_statistics_deltas.lateness IS 'As in source_statistics.';
COMMENT ON COLUMN source_statistics_deltas.ahead_max_ms IS 'Furthest that an event was ahead of its message.';
COMMENT ON COLUMN source_statistics_deltas.landed_at IS 'When the batch landed.';

COMMENT ON COLUMN http_duplicates.inbox_id IS 'Row of the inbox.';
COMMENT ON COLUMN http_duplicates.positions IS 'Which of its events.';
COMMENT ON COLUMN http_duplicates.landed_at IS 'When that was found.';

COMMENT ON COLUMN http_idempotency.status IS 'Status of the answer.';
COMMENT ON COLUMN http_idempotency.answer IS 'Its body.';
COMMENT ON COLUMN http_idempotency.landing IS 'Its landing token.';
COMMENT ON COLUMN http_idempotency.created_at IS 'When it was given.';

COMMENT ON COLUMN mart_progress.mart IS 'Table that dbt fills.';

COMMENT ON COLUMN event_index_state.singleton IS 'There is one row.';

COMMENT ON COLUMN api_keys.id IS 'The part of the key between its underscores.';
COMMENT ON COLUMN api_keys.name IS 'What it is for.';
COMMENT ON COLUMN api_keys.scopes IS 'read, write, admin.';
COMMENT ON COLUMN api_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN api_keys.expires_at IS 'When it ends by itself; NULL: never.';
COMMENT ON COLUMN api_keys.revoked_at IS 'When it was ended.';

COMMENT ON COLUMN api_sessions.key_id IS 'The key.';
COMMENT ON COLUMN api_sessions.created_at IS 'When it began.';
COMMENT ON COLUMN api_sessions.expires_at IS 'When it ends.';

COMMENT ON COLUMN audit_log.id IS 'Order of the lines.';
COMMENT ON COLUMN audit_log.at IS 'When.';
COMMENT ON COLUMN audit_log.method IS 'HTTP method; CLI for the command line.';
COMMENT ON COLUMN audit_log.route IS 'Path as declared, without the values in it.';
COMMENT ON COLUMN audit_log.status IS 'Status of the answer.';
COMMENT ON COLUMN audit_log.request_id IS 'X-Request-ID of the request.';

COMMENT ON COLUMN system_metrics.id IS 'UUID.';
COMMENT ON COLUMN system_metrics.service_name IS 'ingest, api or dagster.';
COMMENT ON COLUMN system_metrics.metric_type IS 'latency, throughput, error_rate, cpu or memory.';
COMMENT ON COLUMN system_metrics.time_bucket IS 'UTC minute.';
COMMENT ON COLUMN system_metrics.value IS 'In the unit of its metric_type.';
COMMENT ON COLUMN system_metrics.dimensions IS 'Host and process id.';
COMMENT ON COLUMN system_metrics.created_at IS 'When it was written.';

COMMENT ON COLUMN order_analytics.id IS 'UUID.';
COMMENT ON COLUMN order_analytics.created_at IS 'When the row was first written.';

COMMENT ON COLUMN user_behavior.id IS 'UUID.';
COMMENT ON COLUMN user_behavior.created_at IS 'When the row was first written.';

COMMENT ON COLUMN strategy_performance.id IS 'UUID.';
COMMENT ON COLUMN strategy_performance.created_at IS 'When the row was written.';

COMMENT ON COLUMN market_analytics.id IS 'UUID.';
COMMENT ON COLUMN market_analytics.created_at IS 'When the row was written.';

COMMENT ON COLUMN import_days.day IS 'UTC day.';
COMMENT ON COLUMN import_days.read IS 'Events read in this pass: stored + duplicate + dead.';
COMMENT ON COLUMN import_days.stored IS 'Stored in this pass.';
COMMENT ON COLUMN import_days.duplicate IS 'Stored before.';
COMMENT ON COLUMN import_days.dead IS 'Dead letters of this pass.';
COMMENT ON COLUMN import_days.landed_hash IS 'As read_hash, of all that was stored.';
COMMENT ON COLUMN import_days.letters IS 'Dead letters of all passes.';
COMMENT ON COLUMN import_days.reached_timestamp IS 'How far this pass has come.';
COMMENT ON COLUMN import_days.changed_at IS 'When it last came further.';

COMMENT ON COLUMN backfill_plans.hours IS 'The UTC hours.';
COMMENT ON COLUMN backfill_plans.planned_at IS 'When it was last planned.';

COMMENT ON COLUMN schema_migrations.version IS 'Number of the file.';
COMMENT ON COLUMN schema_migrations.name IS 'Its name.';
COMMENT ON COLUMN schema_migrations.checksum IS 'SHA-256 of its text: an applied file never changes.';
COMMENT ON COLUMN schema_migrations.applied_at IS 'When.';
