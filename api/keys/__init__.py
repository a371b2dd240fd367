"""/api/v1/keys and /api/v1/session."""
