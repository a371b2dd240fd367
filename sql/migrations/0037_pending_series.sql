-- What is pending of one dimension set is found without passing over the other series of the metric: a total is one of hundreds.

CREATE INDEX rollup_deltas_series_idx ON rollup_deltas (metric_id, dimension_set, minute);
DROP INDEX rollup_deltas_metric_id_minute_idx;
