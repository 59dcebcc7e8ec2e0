"""What an HTTP request meets on its way to vLLM's application, piece by piece."""
