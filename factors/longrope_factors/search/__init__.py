"""Evolutionary search for the factor set of the lowest loss (LongRoPE, arXiv 2402.13753)."""
