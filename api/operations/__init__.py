"""What operators ask: ledger, sources, restatements, retention, pipeline, audit log, metrics of ingestion."""
