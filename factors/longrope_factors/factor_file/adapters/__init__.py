"""The adapter of a factor set: whether it is the one, and can be served."""
