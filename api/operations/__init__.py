"""GET /api/v1/internal/ingestion-metrics."""
