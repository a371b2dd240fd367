"""GET /api/v1/dashboard/metrics."""
