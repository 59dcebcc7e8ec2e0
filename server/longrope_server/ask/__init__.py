"""`longrope ask`: puts a question about a long document to any OpenAI-compatible server."""
