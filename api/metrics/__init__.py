"""GET /api/v1/metrics."""
