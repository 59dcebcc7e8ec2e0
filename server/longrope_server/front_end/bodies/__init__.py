"""Reads the bodies of requests, within limits."""
