"""Pure retention arithmetic: which partitions go; no clients, no clock."""
