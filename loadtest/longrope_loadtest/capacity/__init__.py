"""Find the highest rate of requests that a server answers within their objectives."""
