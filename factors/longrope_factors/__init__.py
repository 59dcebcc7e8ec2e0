"""Factor files for LongRoPE: their schema, the analytic methods, and evaluation."""

__version__ = "0.2.0"
