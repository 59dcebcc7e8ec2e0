"""Text and JSON files: read within limits, and written completely or not at all."""
