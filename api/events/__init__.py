"""`/api/v1/events`: posting them, reading them page by page or as a stream, counting them."""
