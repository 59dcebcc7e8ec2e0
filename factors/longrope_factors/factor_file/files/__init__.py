"""Files of text and JSON, read within bounds and written whole."""
