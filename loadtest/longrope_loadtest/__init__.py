"""A load-testing harness for OpenAI-compatible servers; `longrope loadtest` on the command line."""
