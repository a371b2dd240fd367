"""The only writer of Postgres: repositories of landing, rollups, retention; no business rules."""
