"""Retrieval: whether a model finds facts anywhere in a long document."""
