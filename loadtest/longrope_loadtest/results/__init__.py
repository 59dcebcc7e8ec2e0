"""The figures of a run, and the comparison of two runs."""
