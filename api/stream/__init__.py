"""Server-sent events: dashboard, metrics, and a tail of events."""
