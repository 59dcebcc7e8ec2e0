"""The training data: texts, windows of texts, and retrieval exercises."""
