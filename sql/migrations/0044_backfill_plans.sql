-- What unfinished backfills have to do, so that what is done can be shown as a part of it.

CREATE TABLE backfill_plans (
    metric_set text PRIMARY KEY,
    hours tstzmultirange NOT NULL,
    planned_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE backfill_plans IS 'Hours that unfinished backfills of the same metrics have to do, together.';
COMMENT ON COLUMN backfill_plans.metric_set IS 'As of backfill_progress.';
