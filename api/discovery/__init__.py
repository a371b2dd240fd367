"""GET /api/v1/metrics/catalog, /api/v1/dimensions and /api/v1/dimensions/{dimension}/values."""
