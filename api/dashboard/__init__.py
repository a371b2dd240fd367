"""`/api/v1/dashboard`: the headline numbers, and many questions in one call."""
