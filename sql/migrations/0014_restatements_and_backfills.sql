-- What changed after it was final, and how far an interrupted backfill came.

CREATE TABLE metric_restatements (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    restated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text NOT NULL CHECK (reason IN ('late', 'backfill')),
    run_id text NOT NULL,
    interval varchar(10) NOT NULL,
    time_bucket timestamptz NOT NULL,
    revision bigint NOT NULL,
    metric_id text NOT NULL,
    metric_name text NOT NULL,
    old_count bigint,
    new_count bigint,
    old_sum numeric,
    new_sum numeric,
    old_min double precision,
    new_min double precision,
    old_max double precision,
    new_max double precision,
    old_p50 double precision,
    new_p50 double precision,
    old_p95 double precision,
    new_p95 double precision,
    old_p99 double precision,
    new_p99 double precision,
    old_distinct_count bigint,
    new_distinct_count bigint,
    CHECK (old_count IS NOT NULL OR new_count IS NOT NULL)
);

CREATE INDEX metric_restatements_bucket_idx ON metric_restatements (metric_name, interval, time_bucket);
CREATE INDEX metric_restatements_restated_at_idx ON metric_restatements (restated_at);

COMMENT ON TABLE metric_restatements IS 'The feed of changes to totals of final buckets, written in the transaction of the change.';
COMMENT ON COLUMN metric_restatements.reason IS 'late: events landed after the bucket was final; backfill: a recompute found others.';
COMMENT ON COLUMN metric_restatements.revision IS 'The revision of the bucket that this change made.';
COMMENT ON COLUMN metric_restatements.old_count IS 'NULL, like all old values, where there was no such total.';
COMMENT ON COLUMN metric_restatements.new_count IS 'NULL, like all new values, where there is no such total any more.';

CREATE TABLE backfill_progress (
    metric_set text NOT NULL,
    hour timestamptz NOT NULL,
    run_id text NOT NULL,
    done_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (metric_set, hour)
);

COMMENT ON TABLE backfill_progress IS 'Hours that unfinished backfills have done; a finished one leaves none.';
COMMENT ON COLUMN backfill_progress.metric_set IS 'Hash of the metric_ids recomputed: an edited metric is another set.';
