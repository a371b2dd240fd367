"""POST /api/v1/custom-events, GET /api/v1/custom-events/{name}."""
