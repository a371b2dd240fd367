"""The Dagster surface: a folder per area, thin bodies over `storage` and `rollups`; no SQL, no arithmetic."""
