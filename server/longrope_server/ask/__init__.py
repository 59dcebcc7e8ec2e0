"""`longrope ask`: a question about a long document, put to any OpenAI-compatible server."""
