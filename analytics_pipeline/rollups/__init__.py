"""Pure rollup arithmetic: Arrow in, Arrow out, by DuckDB and numpy; no clients, no clock."""
