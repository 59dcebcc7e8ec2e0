"""The report of a model's evaluations: one HTML page that needs nothing else."""
