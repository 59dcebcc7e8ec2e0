"""The pieces that an HTTP request passes on its way to vLLM's application."""
