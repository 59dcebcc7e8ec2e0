"""Measurements of our own methods, for docs/results.md; not in the wheel."""
