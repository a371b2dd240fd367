"""The REST API: thin endpoints over one repository per feature; all truth is in Postgres."""
