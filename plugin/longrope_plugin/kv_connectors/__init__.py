"""Keys and values that leave the engine's own cache, through vLLM's KV connectors."""
