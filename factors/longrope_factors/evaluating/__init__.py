"""What a model does under a factor set: perplexity, passkeys and retrieval."""
