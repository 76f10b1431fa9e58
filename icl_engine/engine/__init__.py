"""The run engine: a task over all its rows, into a run directory."""
