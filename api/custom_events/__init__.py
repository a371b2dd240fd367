"""`/api/v1/custom-events`: event types that users define, their versions, and what a schema would refuse."""
