"""How a run is judged: one file a metric, each with a 95% interval."""
