"""POST and GET /api/v1/events, GET /api/v1/events/stats."""
