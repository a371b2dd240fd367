"""`/api/v1/dead-letters`: messages that could not become events."""
