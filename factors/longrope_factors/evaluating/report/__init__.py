"""The report on a model's evaluations: a self-contained HTML page."""
