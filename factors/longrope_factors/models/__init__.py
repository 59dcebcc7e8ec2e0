"""A Hugging Face model under any factor set: loaded, rotated, and its loss."""
