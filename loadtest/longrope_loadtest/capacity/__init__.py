"""The highest rate of requests that a server answers within its objectives."""
