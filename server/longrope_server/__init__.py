"""The `longrope` command and what it adds to vLLM's own OpenAI server."""
