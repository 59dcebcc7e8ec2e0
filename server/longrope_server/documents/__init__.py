"""Documents, as the text that a model reads."""
