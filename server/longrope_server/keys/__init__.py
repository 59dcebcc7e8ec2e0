"""API keys: the file that they stand in, and the piece that asks for them."""
