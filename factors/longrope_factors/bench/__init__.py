"""Measurements of our own methods, for docs/results.md."""
