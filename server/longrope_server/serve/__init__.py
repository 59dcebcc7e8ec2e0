"""`longrope serve`: from a command line to a running `vllm serve`."""
