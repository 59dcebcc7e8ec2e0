"""Reading the bodies of requests, within bounds."""
