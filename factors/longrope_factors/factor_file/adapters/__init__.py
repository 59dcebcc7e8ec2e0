"""The adapter of a factor set: whether it is the right one and can be served."""
