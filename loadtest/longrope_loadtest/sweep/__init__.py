"""Run a profile at several rates, and draw the curve of latency against rate."""
