"""Retrieval: whether a model finds what stands anywhere in a long document."""
