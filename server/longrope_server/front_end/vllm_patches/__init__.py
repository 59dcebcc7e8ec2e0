"""What we change in vLLM's own HTTP front end, and the private names that this touches."""
