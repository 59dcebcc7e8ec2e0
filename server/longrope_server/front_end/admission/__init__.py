"""Admission: limits for all requests, for each length class and for each key."""
