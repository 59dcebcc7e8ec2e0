"""Measure a model under factor sets: perplexity, passkeys and retrieval."""
