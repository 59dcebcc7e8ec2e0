"""What is trained on: texts, windows of them, and retrieval exercises."""
