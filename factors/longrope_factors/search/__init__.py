"""Evolutionary search for the factor set with the lowest loss (LongRoPE, arXiv 2402.13753)."""
