"""API keys: the file that holds them, and the command that makes them."""
