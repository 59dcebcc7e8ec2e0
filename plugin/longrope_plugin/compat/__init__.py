"""Every use of vLLM's private names: what breaks without it, and when it can go."""
